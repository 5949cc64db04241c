"""What is read off compiled HLO: loops, sizes, device groups, and collectives with their exact counts and bytes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from surgmotion_jax.parallel.collectives import axes_of, collectives, device_groups
from surgmotion_jax.parallel.hlo import HloError, parse_module, shape_bytes, trip_count

MESH = {"data": 2, "fsdp": 4, "tensor": 1}

# In the TPU compiler's manner: tiled layouts, a loop without a trip count that steps by 2 from 0 to 8, a ring of
# permutes inside a product, one all-gather in three pieces around it, an asynchronous all-reduce.
TPU_TEXT = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%piece.start (p.1: bf16[4,8]) -> bf16[16,8] {
  %p.1 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather(%p.1), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(step)/gathered"}
}

%piece.inside (p.2: bf16[4,8]) -> bf16[16,8] {
  %p.2 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.2 = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(step)/gathered"}
}

%windowed_dot_general_body_ag.1 (state: (u32[], bf16[4,8])) -> (u32[], bf16[4,8]) {
  %two = u32[]{:T(128)} constant(2)
  %state = (u32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%state), index=0
  %next = u32[]{:T(128)} add(%i, %two)
  %shard = bf16[4,8]{1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %permute-start = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%shard), channel_id=3, source_target_pairs={{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}, metadata={op_name="jit(step)/trunk/dot"}
  %permute-done = bf16[4,8]{1,0:T(8,128)(2,1)} collective-permute-done(%permute-start)
  %hidden = bf16[16,8]{1,0} fusion(%shard), kind=kCustom, calls=%piece.inside
  ROOT %carried = (u32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) tuple(%next, %permute-done)
}

%condition.1 (state.1: (u32[], bf16[4,8])) -> pred[] {
  %eight = u32[]{:T(128)} constant(8)
  %state.1 = (u32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %i.1 = u32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.1, %eight), direction=LT
}

ENTRY %main (arg.0: bf16[4,8], arg.1: f32[16]) -> f32[16] {
  %zero = u32[]{:T(128)} constant(0)
  %arg.0 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %arg.1 = f32[16]{0:T(128)} parameter(1)
  %first = bf16[16,8]{1,0} fusion(%arg.0), kind=kCustom, calls=%piece.start
  %counter = u32[]{:T(128)} copy(%zero)
  %start = (u32[]{:T(128)}, /*index=1*/bf16[4,8]{1,0:T(8,128)(2,1)}) tuple(%counter, %arg.0)
  %while.1 = (u32[]{:T(128)}, bf16[4,8]{1,0}) while(%start), condition=%condition.1, body=%windowed_dot_general_body_ag.1, metadata={op_name="jit(step)/trunk/dot"}
  %all-reduce-start = f32[16]{0:T(128)} all-reduce-start(%arg.1), channel_id=9, replica_groups=mesh['x'=4,'y'=2], device_ids=([2,4]T(1,0)) {'y'}, to_apply=%add.1
  ROOT %all-reduce-done = f32[16]{0:T(128)} all-reduce-done(%all-reduce-start)
}
"""  # noqa: E501


def test_collectives_of_a_small_text_by_hand():
    permute, reduce, gather = collectives(TPU_TEXT, MESH)
    assert (permute.kind, permute.role, permute.axes, permute.count) == ("collective-permute", "gather", ("fsdp",), 4)
    assert permute.total_bytes == 4 * (4 * 8 * 2), "each of 4 trips sends the shard"
    assert (reduce.kind, reduce.axes, reduce.group, reduce.count) == ("all-reduce", ("data",), 2, 1)
    assert reduce.total_bytes == 2 * (1 / 2) * 16 * 4, "a ring sends twice all but its own share"
    assert (gather.kind, gather.axes, gather.group, gather.count) == ("all-gather", ("fsdp",), 4, 1), "pieces are one"
    assert gather.full_bytes == 16 * 8 * 2
    assert gather.total_bytes == 3 * (4 * 8 * 2), "three other shards arrive"


def test_an_all_reduce_fused_with_a_slice_is_a_reduce_scatter_and_shares_a_channel_with_no_other():
    piece = TPU_TEXT[TPU_TEXT.index("%piece.start (") : TPU_TEXT.index("%piece.inside (")]
    fused = piece.replace("piece.start", "all-reduce-scatter.1").replace(" all-gather(", " all-reduce(")
    calls = "".join(
        f"  %scatter.{n} = bf16[1,8]{{1,0}} fusion(%arg.0), kind=kCustom, calls=%all-reduce-scatter.1\n" for n in (1, 2)
    )
    text = TPU_TEXT.replace("%piece.inside (", fused + "%piece.inside (", 1).replace(
        "  %counter = ", calls + "  %counter = "
    )
    scatters = [c for c in collectives(text, MESH) if c.kind == "reduce-scatter"]
    assert [(c.role, c.axes, c.count) for c in scatters] == [("scatter", ("fsdp",), 1)] * 2
    assert scatters[0].total_bytes == (3 / 4) * (4 * 8 * 2)


def test_a_known_trip_count_is_believed():
    known = TPU_TEXT.replace(
        "body=%windowed_dot_general_body_ag.1, metadata",
        'body=%windowed_dot_general_body_ag.1, backend_config={"known_trip_count":{"n":"11"}}, metadata',
    )
    assert collectives(known, MESH)[0].count == 11


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("constant(8)", "constant(7)", 4),
        ("direction=LT", "direction=LE", 5),
        ("u32[]{:T(128)} constant(2)", "u32[] constant(1)", 8),
    ],
)
def test_trip_counts_from_start_step_and_bound(old, new, count):
    assert old in TPU_TEXT
    assert collectives(TPU_TEXT.replace(old, new), MESH)[0].count == count


def test_a_loop_that_depends_on_data_is_refused():
    unknown = TPU_TEXT.replace("%eight = u32[]{:T(128)} constant(8)", "%eight = u32[]{:T(128)} partition-id()")
    with pytest.raises(
        HloError, match=r"condition of loop while.1 \(jit\(step\)/trunk/dot\) is not 'counter < constant'"
    ):
        collectives(unknown, MESH)
    unknown = TPU_TEXT.replace("tuple(%next, %permute-done)", "tuple(%i, %permute-done)")
    with pytest.raises(HloError, match="has no constant start and step"):
        collectives(unknown, MESH)


def test_unreadable_text_is_refused():
    with pytest.raises(HloError, match="without an ENTRY"):
        parse_module("HloModule empty")
    with pytest.raises(HloError, match="no device groups of a known form"):
        device_groups("replica_groups=@other", 8)
    with pytest.raises(HloError, match="dtype 'foo'"):
        shape_bytes("foo[2]")


def test_bytes_of_shapes():
    assert shape_bytes("(f32[2,3]{1,0:T(8,128)}, bf16[4], pred[5], /*index=3*/u8[])") == 24 + 8 + 5 + 1
    assert shape_bytes("f8e4m3fn[10]") == 10


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}", [(0, 1), (2, 3)]),
        ("replica_groups={}", [(0, 1, 2, 3)]),
        ("replica_groups=[2,2]<=[4]", [(0, 1), (2, 3)]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [(0, 2), (1, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [(0, 2), (1, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [(0, 1, 2, 3)]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", [(0, 1), (2, 3)]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", [(0, 1), (2, 3)]),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", [(0, 2), (1, 3)]),
        ("source_target_pairs={{0,1},{1,0}}", [(0, 1), (1, 0)]),
    ],
)
def test_device_groups_of_every_form(text, groups):
    assert device_groups(f"channel_id=1, {text}, dimensions={{0}}", 4) == groups


def test_axes_of_groups():
    assert axes_of([(0, 1, 2, 3), (4, 5, 6, 7)], MESH) == ("fsdp",)
    assert axes_of([(0, 4), (1, 5)], MESH) == ("data",)
    assert axes_of([tuple(range(8))], MESH) == ("data", "fsdp")
    assert axes_of([(0,)], MESH) == ()


def test_a_scan_of_sharded_products_has_the_collectives_that_the_shapes_say():
    """Five layers of two products, weights split over fsdp: ten gathers, then the gradient's ten scatters' worth."""
    mesh = jax.make_mesh((2, 4, 1), tuple(MESH), (AxisType.Auto,) * 3)

    def shape(dims, *spec):
        return jax.ShapeDtypeStruct(dims, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))

    first, second = shape((5, 64, 32), None, "fsdp"), shape((5, 32, 64), None, None, "fsdp")
    x = shape((16, 64), ("data", "fsdp"))

    def loss(first, second, x):
        def layer(x, weights):
            x = jnp.tanh(x @ weights[0]) @ weights[1]
            return jax.lax.with_sharding_constraint(x, x_sharding), None

        return jnp.square(jax.lax.scan(layer, x, (first, second))[0]).sum()

    x_sharding = x.sharding
    text = jax.jit(loss).lower(first, second, x).compile().as_text()
    found = collectives(text, MESH)
    gathers = [c for c in found if c.role == "gather"]
    assert sum(c.count for c in gathers) == 10
    assert {c.axes for c in gathers} == {("fsdp",)}
    assert sum(c.total_bytes for c in gathers) == 5 * (3 / 4) * (64 * 32 + 32 * 64) * 4
    (total,) = [c for c in found if c.kind == "all-reduce"]
    assert (total.axes, total.count, total.full_bytes) == (("data", "fsdp"), 1, 4)
    assert trip_of_the_only_loop(text) == 5


def trip_of_the_only_loop(text: str) -> int:
    module = parse_module(text)
    ((home, loop),) = [
        (c, i) for c in module.computations.values() for i in c.instructions.values() if i.opcode == "while"
    ]
    return trip_count(module, home, loop)
