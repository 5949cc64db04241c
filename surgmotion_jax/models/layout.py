"""How model code talks about placement without knowing any mesh.

Models name *logical* axes ("batch", "tokens", "embed", ...). A layout turns the names into constraints;
the one used here leaves every array where it is, `parallel.mesh.MeshLayout` maps names to a device mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax

Names = tuple[str | None, ...]
VMEM_BYTES = 62 * 2**20  # what every TPU since v5e has, less what the compiler keeps


class Layout(Protocol):
    """Placement of activations, by logical axis names."""

    def constrain(self, x: jax.Array, names: Names) -> jax.Array:
        """Returns `x` constrained to the mesh axes that the names stand for."""
        ...

    @property
    def platform(self) -> str:
        """What the devices are: 'cpu', 'gpu', 'tpu'."""
        ...

    def divides(self, name: str) -> bool:
        """Whether an axis of this name is divided between devices."""
        ...

    def parts(self, name: str) -> int:
        """Devices that an axis of this name is divided between."""
        ...

    def per_shard(self, fn: Callable[..., Any], in_names: Sequence[Any], out_names: Any) -> Callable[..., Any]:
        """Returns `fn` run on each device's own shard, with no communication; several outputs have a tuple of names."""
        ...

    def sum_over_shards(
        self, fn: Callable[..., jax.Array], in_names: Sequence[Names], out_names: Names
    ) -> Callable[..., jax.Array]:
        """As `per_shard`, where `fn` sums over a batch: its results are summed too, each device keeps its shard."""
        ...

    @property
    def vmem_bytes(self) -> int:
        """Memory of a TPU's core that a kernel may take."""
        ...


@dataclass(frozen=True)
class SingleDevice:
    """The layout of one device, the default one: every operation is the identity."""

    @property
    def platform(self) -> str:
        return jax.default_backend()

    def constrain(self, x: jax.Array, names: Names) -> jax.Array:
        del names
        return x

    def divides(self, name: str) -> bool:
        del name
        return False

    def parts(self, name: str) -> int:
        del name
        return 1

    def per_shard(self, fn: Callable[..., Any], in_names: Sequence[Any], out_names: Any) -> Callable[..., Any]:
        del in_names, out_names
        return fn

    def sum_over_shards(
        self, fn: Callable[..., jax.Array], in_names: Sequence[Names], out_names: Names
    ) -> Callable[..., jax.Array]:
        del in_names, out_names
        return fn

    @property
    def vmem_bytes(self) -> int:
        return VMEM_BYTES


SINGLE_DEVICE = SingleDevice()
