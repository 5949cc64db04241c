"""A corpus as records: its format, its shards, its manifest, and how clips are read from them."""
