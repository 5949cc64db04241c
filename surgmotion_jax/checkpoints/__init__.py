"""Checkpoints that resume on another mesh, notice damage, and refuse what does not fit."""
