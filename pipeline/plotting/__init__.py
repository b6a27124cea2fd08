"""Every picture that Matplotlib draws, with captions and thumbnails."""
