"""Runs many jobs of one stage, one after the other or side by side; `--resume` completes a sweep that was interrupted.

Hydra composes the jobs and launches them. The folder of a sweep holds all that another process needs to go on with it: the
request and a copy of the configuration in `.source`, and a folder for each job with its `job.json`.
"""
