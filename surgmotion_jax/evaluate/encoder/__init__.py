"""The frozen encoder: loading, calling, exporting it."""
