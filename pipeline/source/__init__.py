"""Gets raw files from mirrors, folders, archives and buckets, detects their layout, and packs them."""
