"""The frozen encoder at work: features of whole videos, and what is made of them."""
