"""Pure numbers: history, scores, intervals, paired tests and power laws."""
