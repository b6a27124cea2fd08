"""What is made of raw files: layouts, decoding, checks, splits, arrays on disk."""
