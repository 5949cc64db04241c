"""Building blocks of optimisers, in optax's terms: for the backbone in pretraining, and for heads in evaluation."""
