"""Features of whole videos: windows, files, the cache."""
