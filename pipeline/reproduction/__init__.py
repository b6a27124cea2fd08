"""Rebuilds a training in a git worktree of its own, and compares the two."""
