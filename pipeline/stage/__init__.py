"""Starts and ends a stage: its command line, its job, signals, fingerprints and inputs."""
