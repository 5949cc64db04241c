"""Attention of one group of heads of one clip as a program of a TPU's core, forward and backward."""
