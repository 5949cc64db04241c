"""Linear layers whose kernels may be divided between devices: gathered once a pass, their gradients scattered once.

Letters: B batch, N tokens, C width, G groups of heads, H heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout, Names

GATHERED = "gathered_kernel"  # a kernel made whole: no policy keeps it, or every device would hold all parameters

# V-JEPA truncates at +-2 *absolute*, that is at 100 standard deviations: a plain normal.
WEIGHT_INIT = nn.initializers.normal(0.02)

# Names of the activations that a kernel's axes of these names meet.
ACTIVATIONS = {"heads": "act_heads", "mlp": "act_mlp"}


def named(init: Callable[..., Any], axes: Names) -> Callable[..., Any]:
    """An initialiser whose parameter carries logical axis names."""
    return nn.with_partitioning(init, axes)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gather_kernel(kernel: jax.Array, axes: Names, layout: Layout, groups: int = 0) -> jax.Array:
    """The kernel whole along its sharded width, on every device; its gradient goes back in shards.

    Left to itself the compiler may gather a kernel anew for each product of a backward pass, and sum whole gradients
    on every device. Said here, there is one gather a pass and one reduce-scatter.

    With `groups`, the kernel [C,3*H*D] of queries, keys and values comes back by groups of heads: [C,G*3*H*D/G].
    """
    # Shards first: what is kept of a kernel for the backward pass would otherwise be kept whole.
    whole = layout.constrain(layout.constrain(kernel, axes), tuple(None if a == "embed" else a for a in axes))
    return by_groups(whole, groups) if groups else whole


def _gather_forward(kernel: jax.Array, axes: Names, layout: Layout, groups: int) -> tuple[jax.Array, None]:
    return gather_kernel(kernel, axes, layout, groups), None


def _gather_backward(axes: Names, layout: Layout, groups: int, kept: None, gradient: jax.Array) -> tuple[jax.Array]:
    del kept
    return (layout.constrain(from_groups(gradient, axes, groups) if groups else gradient, axes),)


gather_kernel.defvjp(_gather_forward, _gather_backward)


def by_groups(kernel: jax.Array, groups: int) -> jax.Array:
    """[C,3*H*D] or [C,3,H*D] to [C,G*3*H*D/G]: the columns of each group of heads side by side."""
    rows = kernel.shape[0]
    return kernel.reshape(rows, 3, groups, -1).swapaxes(1, 2).reshape(rows, -1)


def from_groups(kernel: jax.Array, axes: Names, groups: int) -> jax.Array:
    """Undoes `by_groups`; `axes` are the names of the kernel's axes before it."""
    rows = kernel.shape[0]
    parted = kernel.reshape(rows, groups, 3, -1).swapaxes(1, 2)
    return parted.reshape(rows, -1) if len(axes) == 2 else parted.reshape(rows, 3, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(x_BxNxI: jax.Array, kernel_IxO: jax.Array, axes: Names, layout: Layout) -> jax.Array:
    """x @ kernel, for a gathered kernel whose shards have these axes.

    The kernel's gradient is one product on each device, then one reduce-scatter. Left to itself the compiler makes it
    a ring of products with slices so narrow that a matrix unit is mostly idle.
    """
    return jnp.dot(x_BxNxI, kernel_IxO)


def _product_forward(
    x: jax.Array, kernel: jax.Array, axes: Names, layout: Layout
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return jnp.dot(x, kernel), (x, kernel)  # bare, so that policies see a product


def _product_backward(
    axes: Names, layout: Layout, kept: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    by_x = jax.lax.dot_general(slope, kernel, (((2,), (1,)), ((), ())))
    rows = [("batch", None, ACTIVATIONS.get(name or "")) for name in axes]

    def by_kernel(x: jax.Array, slope: jax.Array) -> jax.Array:
        return jax.lax.dot_general(x, slope, (((0, 1), (0, 1)), ((), ())))

    return by_x, layout.sum_over_shards(by_kernel, rows, axes)(x, slope)


product.defvjp(_product_forward, _product_backward)


class Weights(NamedTuple):
    """A gathered kernel in the computation's dtype, as flat as shards permit, the names of its axes, a bias."""

    kernel: jax.Array
    inputs: Names
    outputs: Names
    bias: jax.Array


class Weighted(nn.Module):
    """What has a kernel and a bias with named axes; contracts the last `contract` axes of its input."""

    features: tuple[int, ...]
    axes: Names
    dtype: Any
    contract: int = 1
    layout: Layout = SINGLE_DEVICE  # given, the kernel is gathered by name, in the computation's dtype

    def weights(self, sizes: tuple[int, ...], groups: int = 0) -> Weights:
        """The weights for inputs of these sizes; `groups` as `gather_kernel` takes them."""
        out_axes = self.axes[self.contract :]
        # A bias along a replicated output is itself replicated: sharding it would only buy communication.
        bias_axes = tuple(None if a == "embed" else a for a in out_axes)
        kernel = self.param("kernel", named(WEIGHT_INIT, self.axes), sizes + self.features, jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, bias_axes), self.features, jnp.float32)
        # Flat, because the compiler sums a gradient over heads and head dimensions whole before it cuts it.
        in_sizes, inputs = merged(sizes, self.axes[: self.contract], self.layout)
        out_sizes, outputs = merged(self.features, out_axes, self.layout)
        kernel = kernel.astype(self.dtype).reshape(in_sizes + out_sizes)
        kernel = checkpoint_name(gather_kernel(kernel, inputs + outputs, self.layout, groups), GATHERED)
        return Weights(kernel, inputs, outputs, bias)


class Linear(Weighted):
    """`x @ kernel + bias`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, sizes = x.shape[: x.ndim - self.contract], x.shape[x.ndim - self.contract :]
        kernel, inputs, outputs, bias = self.weights(sizes)
        x = x.astype(self.dtype).reshape(*batch, *kernel.shape[: len(inputs)])
        y = multiply(x, kernel, inputs, outputs, self.layout)
        return y.reshape(*batch, *self.features) + bias.astype(self.dtype)


def multiply(x: jax.Array, kernel: jax.Array, inputs: Names, outputs: Names, layout: Layout) -> jax.Array:
    """x contracted with a kernel along its input axes, by `product` where the kernel's gradient is to be cut."""
    axes = inputs + outputs
    if x.ndim == 3 and len(inputs) == len(outputs) == 1 and "embed" in axes and layout.divides("embed"):
        return product(x, kernel, axes, layout)
    return jnp.tensordot(x, kernel, axes=len(inputs))


def merged(sizes: tuple[int, ...], names: Names, layout: Layout) -> tuple[tuple[int, ...], Names]:
    """Joins neighbouring axes of which at most the first is divided between devices, such as heads and their width."""
    flat: list[tuple[int, str | None]] = []
    for size, name in zip(sizes, names, strict=True):
        if flat and (name is None or not layout.divides(name)):
            flat[-1] = flat[-1][0] * size, flat[-1][1]
        else:
            flat.append((size, name))
    return tuple(size for size, _ in flat), tuple(name for _, name in flat)
