"""The device mesh, the layout it gives model code, and which rows of a global batch belong to a process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from surgmotion_jax.models.layout import VMEM_BYTES, Names, SingleDevice
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.rules import MESH_AXES, mesh_axes, spec_of
from surgmotion_jax.parallel.topology import chip_of

BATCH_AXES = mesh_axes(spec_of(("batch",))[0])


def mesh_shape(config: ParallelConfig, devices: int) -> tuple[int, int, int]:
    """Sizes of (data, fsdp, tensor) for a number of devices; resolves one -1. Raises ValueError where they differ."""
    if config.mesh != "given":
        raise ValueError(
            f"parallel.mesh is {config.mesh!r}, but the mesh has not been chosen here; give its sizes and "
            "--config.parallel.mesh=given."
        )
    sizes = [config.data, config.fsdp, config.tensor]
    text = f"parallel.data={sizes[0]}, fsdp={sizes[1]}, tensor={sizes[2]}"
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise ValueError(f"{text}: sizes are positive, and at most one may be -1 (the devices left over).")
    if -1 in sizes:
        known = -math.prod(sizes)
        if devices % known:
            raise ValueError(f"{text}: {devices} devices are not divisible by {known}; change the sizes given.")
        sizes[sizes.index(-1)] = devices // known
    if math.prod(sizes) != devices:
        raise ValueError(
            f"{text} makes {math.prod(sizes)} devices, but there are {devices}; set one axis to -1 to use them all."
        )
    return sizes[0], sizes[1], sizes[2]


def make_mesh(config: ParallelConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh (data, fsdp, tensor) over all devices, tensor innermost."""
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(config, len(devices))
    return Mesh(arrange(devices, shape), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def arrange(devices: Sequence[Any], shape: tuple[int, int, int]) -> np.ndarray:
    """The devices in the shape of the mesh: slices outermost on data, and the rows of each process next to each other.

    Within a slice JAX knows the best order for the network, and it is taken if it leaves every process with one range
    of rows of the batch, which is what it reads. Otherwise devices follow each other host by host, which on a torus
    makes blocks of neighbours.
    """
    slices = {getattr(d, "slice_index", 0) for d in devices}
    try:
        if len(slices) == 1:
            arranged = mesh_utils.create_device_mesh(shape, devices)
        elif shape[0] % len(slices) == 0:
            within = (shape[0] // len(slices), *shape[1:])
            arranged = mesh_utils.create_hybrid_device_mesh(within, (len(slices), 1, 1), devices)
        else:
            arranged = None
    except (NotImplementedError, AssertionError):  # a shape the torus cannot be cut into, or two devices a chip
        arranged = None
    if arranged is not None and _rows_are_ranges(arranged):
        return arranged
    ordered = sorted(devices, key=lambda d: (getattr(d, "slice_index", 0), d.process_index, d.id))
    return np.array(ordered, dtype=object).reshape(shape)


def _rows_are_ranges(devices_DxFxT: np.ndarray) -> bool:
    parts: dict[int, set[int]] = {}
    for part, group in enumerate(devices_DxFxT.reshape(-1, devices_DxFxT.shape[-1])):
        for device in group:
            parts.setdefault(device.process_index, set()).add(part)
    return all(max(p) - min(p) + 1 == len(p) for p in parts.values())


@dataclass(frozen=True)
class MeshLayout:
    """`models.layout.Layout` over a mesh, through the rule table."""

    mesh: Mesh

    @property
    def platform(self) -> str:
        return self.mesh.devices.flat[0].platform

    def constrain(self, x: jax.Array, names: Names) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec_of(names)))

    def divides(self, name: str) -> bool:
        return self.parts(name) > 1

    def parts(self, name: str) -> int:
        return math.prod(self.mesh.shape[axis] for axis in mesh_axes(spec_of((name,))[0]))

    def per_shard(self, fn: Callable[..., Any], in_names: Sequence[Any], out_names: Any) -> Callable[..., Any]:
        several = bool(out_names) and isinstance(out_names[0], tuple)
        out_specs = tuple(map(spec_of, out_names)) if several else spec_of(out_names)
        return jax.shard_map(
            fn, mesh=self.mesh, in_specs=tuple(map(spec_of, in_names)), out_specs=out_specs, check_vma=False
        )

    def sum_over_shards(
        self, fn: Callable[..., jax.Array], in_names: Sequence[Names], out_names: Names
    ) -> Callable[..., jax.Array]:
        cuts = [mesh_axes(entry) for entry in spec_of(out_names)]

        def summed(*shards: jax.Array) -> jax.Array:
            total = fn(*shards)
            # What is cut comes first, so that the rest of the sum is over shards.
            for axis in sorted(BATCH_AXES, key=lambda axis: all(axis not in cut for cut in cuts)):
                cut = [i for i, axes in enumerate(cuts) if axis in axes]
                if self.mesh.shape[axis] == 1:
                    continue
                if cut:
                    total = jax.lax.psum_scatter(total, axis, scatter_dimension=cut[0], tiled=True)
                else:
                    total = jax.lax.psum(total, axis)
            return total

        return self.per_shard(summed, in_names, out_names)

    @property
    def vmem_bytes(self) -> int:
        devices = getattr(self.mesh, "devices", None)  # an abstract mesh has none
        chip = None if devices is None else chip_of(devices.flat[0].device_kind)
        return VMEM_BYTES if chip is None or not chip.vmem_bytes else chip.vmem_bytes

    @property
    def batch(self) -> NamedSharding:
        """Sharding of anything with a leading batch axis."""
        return NamedSharding(self.mesh, spec_of(("batch",)))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_parts(self) -> int:
        """Number of shards of the batch."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]


@dataclass(frozen=True)
class OneDevice(SingleDevice):
    """The layout of what is whole on one device of a mesh, such as a head of a sweep."""

    of: MeshLayout

    @property
    def platform(self) -> str:
        return self.of.platform

    @property
    def vmem_bytes(self) -> int:
        return self.of.vmem_bytes


def laid_out(leaf: jax.Array, sharding: Sharding | None) -> jax.Array:
    """Shape and dtype of a leaf with a sharding, standing for an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # type: ignore[return-value]


def check_batch(field: str, batch: int, layout: MeshLayout, accumulate: int = 1) -> None:
    """Raises ValueError unless the batch splits over the mesh (and its micro-batches)."""
    parts = layout.batch_parts * accumulate
    if batch % parts:
        shape = dict(layout.mesh.shape)
        raise ValueError(
            f"{field} {batch} is not divisible by {parts} (data {shape['data']} x fsdp {shape['fsdp']} x micro-batches "
            f"{accumulate}); use a multiple of {parts}, or a smaller mesh."
        )


def process_rows(layout: MeshLayout, batch: int) -> tuple[int, int]:
    """Rows [start, stop) of a global batch that this process feeds, read off the sharding itself."""
    slices = layout.batch.addressable_devices_indices_map((batch,)).values()
    rows = sorted({(s[0].start or 0, batch if s[0].stop is None else s[0].stop) for s in slices if s})
    start, stop = rows[0][0], rows[-1][1]
    assert sum(b - a for a, b in rows) == stop - start, f"rows of one process are not contiguous: {rows}"
    return start, stop


def to_global(layout: MeshLayout, local: Any, batch: int) -> Any:
    """Global arrays, batch rows sharded, from this process's rows."""

    def one(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(layout.batch, x, (batch, *x.shape[1:]))

    return jax.tree.map(one, local)
