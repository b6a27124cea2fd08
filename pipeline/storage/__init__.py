"""Atomic writes, locks, arrays on disk and pools of processes."""
