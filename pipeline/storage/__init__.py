"""What lies on disk: atomic writes, locks, fingerprints and the caches that they name."""
