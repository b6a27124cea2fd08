"""How a stage starts and ends: its command line, its job, signals, fingerprints and inputs."""
