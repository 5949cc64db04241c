"""One clip made ready: augmentation, field of view, motion saliency, masks."""
