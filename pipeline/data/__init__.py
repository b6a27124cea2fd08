"""Reads, decodes, checks and splits the raw dataset."""
