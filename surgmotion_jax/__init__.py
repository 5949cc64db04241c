"""Video representation learning for surgery by latent motion prediction, in JAX."""

__version__ = "0.1.0"
