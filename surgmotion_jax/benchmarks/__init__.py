"""One small file per public benchmark: its classes, splits and layout on disk, read into cases."""
