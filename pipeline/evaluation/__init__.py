"""Accuracy on a split, simple reference methods, and the audit of labels."""
