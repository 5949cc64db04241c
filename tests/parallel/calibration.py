"""Programs whose speed in practice is known, estimated as plans are: how far to trust the compiler's figures.

  python -m tests.parallel.calibration v5e:2x2 v5p:2x2x1 v6e:2x2

A product of 8,192 x 8,192 matrices, and a layer of the size of a language model with seven billion parameters, forward
and backward. In practice large products reach nine tenths of the peak, and such models 55 to 70 % MFU. Needs libtpu.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from surgmotion_jax.parallel.topology import describe, devices_of, set_environment

SIDE = 8192
CLIPS, TOKENS, WIDTH, MLP, HEADS = 2, 2048, 4096, 11008, 32  # as LLaMA 7B, with one projection in the MLP less


def shares(name: str) -> dict[str, tuple[float, float]]:
    """Of the peak of one device of a topology: (by the plain sum, by the corrected one) of each program."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from surgmotion_jax.models.config import TransformerConfig
    from surgmotion_jax.models.flops import block_flops
    from surgmotion_jax.models.transformer import Trunk
    from surgmotion_jax.parallel.config import ParallelConfig
    from surgmotion_jax.parallel.mesh import MeshLayout, OneDevice, make_mesh
    from surgmotion_jax.parallel.times import time_on

    topology = describe(name)
    device = devices_of(topology)[:1]
    where, layout = SingleDeviceSharding(device[0]), OneDevice(MeshLayout(make_mesh(ParallelConfig(), device)))

    def share(function, flops, *arguments) -> tuple[float, float]:
        placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arguments)
        time = time_on(topology, jax.jit(function).lower(*placed).compile().as_text(), flops)
        found = time.mfu(topology.peak_flops)
        return found.plain, found.corrected

    square = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.bfloat16)
    c = TransformerConfig(WIDTH, 1, HEADS, MLP, positions="none", attention="fused", dtype="bfloat16", remat="none")
    trunk, tokens = Trunk(c, layout), jax.ShapeDtypeStruct((CLIPS, TOKENS, WIDTH), jnp.bfloat16)
    params = jax.eval_shape(lambda: trunk.init(jax.random.key(0), jnp.zeros(tokens.shape, tokens.dtype), None))

    def loss(params, x):
        return jnp.square(trunk.apply(params, x, None)[0].astype(jnp.float32)).mean()

    layer = jax.value_and_grad(loss, argnums=(0, 1))
    return {
        "product": share(jnp.dot, 2 * SIDE**3, square, square),
        "layer": share(layer, 3 * CLIPS * block_flops(c, TOKENS), params, tokens),
    }


def main(names: Sequence[str]) -> None:
    set_environment(os.environ)
    for name in names or ("v5e:2x2",):
        for program, (plain, corrected) in shares(name).items():
            print(f"{name:10} {program:8} {100 * plain:.1f} ({100 * corrected:.1f}) % of the peak", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
