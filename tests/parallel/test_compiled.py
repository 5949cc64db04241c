"""What is read off a compiled program, or off the compiler's refusal."""

from __future__ import annotations

import jax
import pytest

from surgmotion_jax.parallel.compiled import compile_program, memory_needed


def test_a_program_that_is_too_large_is_a_result_and_another_error_is_one():
    def refused(message):
        def compile():
            raise jax.errors.JaxRuntimeError(message)

        return compile

    found = compile_program(refused("Used 18.50G of 15.75G hbm. Exceeded hbm capacity by 2.75G"))
    assert (found.needed, found.text) == (18.5 * 2**30, "")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        compile_program(refused("something else"))


def test_memory_and_text_are_those_of_the_program():
    found = compile_program(jax.jit(lambda x: x @ x.T).lower(jax.ShapeDtypeStruct((8, 4), "float32")).compile)
    assert (found.arguments, found.outputs, found.needed) == (8 * 4 * 4, 8 * 8 * 4, 0)
    assert "ENTRY" in found.text


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("Used 18.50G of 15.75G hbm. Exceeded hbm capacity by 2.75G", 18.5 * 2**30),
        ("the total memory required for HLO temporaries (29.59G) exceeds available HBM (15.75G).", 29.59 * 2**30),
        ("something else", None),
    ],
)
def test_what_the_compiler_says_of_a_program_that_does_not_fit(message, size):
    assert memory_needed(message) == size
