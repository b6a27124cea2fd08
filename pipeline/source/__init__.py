"""Where raw files come from: mirrors, folders, archives and buckets; what they are, and how they are packed."""
