"""Laws of the path table."""

import dataclasses
import typing

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.tree import leaves_by_path, nest


class Pair(typing.NamedTuple):
    first: typing.Any
    second: typing.Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    params: typing.Any
    step: typing.Any


def test_paths_join_the_keys_of_every_container():
    state = State(params={"w": np.ones(2), "none": None}, step=(Pair(np.ones(1), ()), [np.ones(3)]))
    table = leaves_by_path(state)
    assert list(table) == ["params/w", "step/0/first", "step/1/0"]
    assert [leaf.size for leaf in table.values()] == [leaf.size for leaf in jax.tree.leaves(state)]


def test_nest_inverts_the_table_of_a_nested_dict():
    tree = {"a": {"b": np.ones(1), "c": {"d": np.ones(2)}}, "e": np.ones(3)}
    again = nest(leaves_by_path(tree))
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert [x.size for x in jax.tree.leaves(again)] == [x.size for x in jax.tree.leaves(tree)]


class Clash:
    """A node whose two children have the same key."""


jax.tree_util.register_pytree_with_keys(
    Clash,
    lambda node: ([(jax.tree_util.DictKey("x"), np.ones(1))] * 2, None),
    lambda _, children: Clash(),
)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"n": 3}}, "leaf a/n: int found, arrays only"),
        ({"k": jax.eval_shape(lambda: jax.random.key(0))}, "leaf k: a typed PRNG key"),
        ({"a/b": np.ones(1)}, "no name may hold '/'"),
        (np.ones(1), "every leaf needs a name"),
        ({"c": Clash()}, "leaf c/x: two leaves have this path"),
    ],
)
def test_leaves_that_cannot_be_stored_are_refused_by_path(tree, message):
    with pytest.raises(ValueError, match=message):
        leaves_by_path(tree)
