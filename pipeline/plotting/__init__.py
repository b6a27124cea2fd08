"""Draws every Matplotlib figure, with captions and thumbnails."""
