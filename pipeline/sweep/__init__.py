"""Sweeps: many jobs of one stage, one after the other or side by side, which a kill interrupts and `--resume` completes.

Hydra composes the jobs and launches them. What is known of a sweep lies in its folder, so that any process can go on with
it: the request and a copy of the configuration in `.source`, a folder for each job with its `job.json`.
"""
