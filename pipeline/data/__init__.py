"""Raw files and what is made of them: mirrors, layouts, splits, arrays on disk."""
