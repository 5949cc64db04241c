"""The catalogue of benchmarks; that one file and one line add to it is in tests/evaluate/test_new_benchmark.py."""

from __future__ import annotations

import dataclasses

import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import FAMILIES


def test_a_row_that_cannot_be_used_is_refused():
    mine = dataclasses.replace(catalogue.get("cholec80"), name="mine")
    assert catalogue.checked(mine) is mine
    with pytest.raises(ValueError, match="family is 'steps', one of workflow, "):
        catalogue.checked(dataclasses.replace(mine, family="steps"))
    with pytest.raises(ValueError, match="protocols is empty"):
        catalogue.checked(dataclasses.replace(mine, protocols=()))


@pytest.mark.parametrize("name", catalogue.BENCHMARKS)
def test_every_row_is_one(name):
    benchmark = catalogue.get(name)
    assert benchmark.name == name
    assert benchmark.family in FAMILIES
    assert benchmark.layout


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown benchmark 'pitvys'; there are cholec80, .*Did you mean 'pitvis'\?"):
        catalogue.get("pitvys")
