"""What is known in practice comes out of the estimates about right, on the generations where it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@needs.LIBTPU
def test_a_large_product_and_a_layer_of_a_language_model_are_estimated_as_they_run():
    code = (
        "import json, os; from tests.parallel import calibration; calibration.set_environment(os.environ); "
        "print(json.dumps(calibration.shares('v5e:2x2')))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        (sys.executable, "-c", code), check=False, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.8 < found["product"][0] < 1
    assert 0.5 < found["layer"][0] < 0.8
