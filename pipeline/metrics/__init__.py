"""Computes numbers from numbers: history, scores, intervals, paired tests and power laws."""
