"""What docs/architecture.md says: imports run one way, each library has one door, importing does no work."""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.tiers import HEAVY, LONG

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "surgmotion_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A part imports only parts of lower levels: those of one level know nothing of each other.
LEVELS = (
    ("storage", "inert_pickle", "checks", "differences"),
    ("records", "config", "registry"),
    ("models",),
    ("optim", "parallel", "checkpoints", "data"),
    ("benchmarks",),
    ("pretrain", "report", "evaluate", "simulate"),
    ("corpus",),
    ("pages",),
    ("runs", "doctor"),
    ("commands", "__main__"),
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

# Libraries that only some files may import, so that each can be replaced in one place.
DOORS = {
    "orbax": ("checkpoints/store.py",),
    "grain": ("data/loader.py",),
    "av": ("data/",),
    "flax": ("models/",),
    "optax": ("optim/", "pretrain/", "evaluate/heads/"),
    "ml_collections": ("config.py",),
    "fsspec": ("storage.py",),
    "tensorboardX": ("records.py",),
    "tensorflow_datasets": ("data/tfds_source.py", "benchmarks/tfds_builder.py"),
    "apache_beam": ("corpus/beam.py",),
    "array_record": ("data/records/shard.py", "evaluate/features/files.py"),
    "simplejpeg": ("data/records/jpeg.py",),
    "tifffile": ("benchmarks/depth_files.py", "simulate/layouts/scared.py"),
    "torch": (),
    "transformers": (),
    "tensorflow": (),
}


@functools.cache
def imported_names(source: str) -> tuple[str, ...]:
    """Dotted names that a module imports, inside functions too; `from a import b` gives 'a.b'."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def upward_imports(part: str, source: str) -> list[str]:
    """Imports of `source`, which lies in `part`, that do not go to the same part or a lower level."""
    wrong = []
    for name in imported_names(source):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package == "surgmotion_jax" and other in LEVEL and other != part and LEVEL[other] >= LEVEL[part]:
            wrong.append(name)
    return wrong


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def in_package(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def test_every_part_has_a_level():
    assert {part_of(module) for module in MODULES} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES, ids=in_package)
def test_imports_run_one_way(module):
    if module.name != "__init__.py" or module.parent != PACKAGE:
        assert not upward_imports(part_of(module), module.read_text())


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("models", "from surgmotion_jax.parallel.rules import RULES"),
        ("data", "import surgmotion_jax.checkpoints.store"),
        ("report", "def f():\n    from surgmotion_jax.pretrain import masks"),
        ("storage", "from surgmotion_jax import records"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(part, line):
    assert len(upward_imports(part, line)) == 1


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library):
    users = [in_package(m) for m in MODULES if library in {n.partition(".")[0] for n in imported_names(m.read_text())}]
    assert not [user for user in users if not user.startswith(DOORS[library])]


def test_only_its_command_and_the_study_import_the_simulator():
    users = {
        in_package(m)
        for m in MODULES
        if any(name.startswith("surgmotion_jax.simulate") for name in imported_names(m.read_text()))
    }
    assert {user for user in users if not user.startswith("simulate/")} == {
        "commands/simulate.py",
        "runs/study/work.py",
    }


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module that are not inside a function or class; those for type checkers count."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                yield from statements(getattr(node, part, []))


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> modules that it imports at its top, of those named in `sources`."""
    graph = {}
    for module, source in sources.items():
        top = [n for n in statements(ast.parse(source).body) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = list(imported_names("\n".join(map(ast.unparse, top))))
        found = {name if name in sources else name.rpartition(".")[0] for name in names}
        graph[module] = found & sources.keys() - {module}
    return graph


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of imports, its first module again at its end; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_run_in_a_circle():
    names = {".".join(m.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): m for m in MODULES}
    graph = import_graph({name: module.read_text() for name, module in names.items()})
    assert "surgmotion_jax.benchmarks.benchmark" in graph["surgmotion_jax.benchmarks.cholec80"]
    assert not circle(graph)


def test_a_circle_is_found_where_only_a_type_checker_sees_it():
    sources = {
        "a": "import b.c",
        "b.c": "from b import d",
        "b.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import A",
    }
    assert set(circle(import_graph(sources))) == {"a", "b.c", "b.d"}
    sources["b.d"] = "def late():\n    from a import A"
    assert not circle(import_graph(sources))


def test_config_dicts_stop_at_the_door():
    """Library code reads frozen dataclasses: only commands and runs turn a ConfigDict into them."""
    users = {
        part_of(m)
        for m in MODULES
        if any(name.startswith("surgmotion_jax.config") for name in imported_names(m.read_text()))
    }
    assert users <= {"commands", "runs"}


def test_config_files_import_the_door_and_config_classes_only():
    sections = tuple(f"surgmotion_jax.{part}.config." for part in ("pretrain", "evaluate", "runs.study"))
    allowed = ("ml_collections", "surgmotion_jax.checks.", "surgmotion_jax.config.", "surgmotion_jax.data.", *sections)
    for file in (ROOT / "configs").rglob("*.py"):
        names = [n for n in imported_names(file.read_text()) if n.partition(".")[0] not in sys.stdlib_module_names]
        assert all(name.startswith(allowed) for name in names), file


def test_no_module_is_a_drawer():
    assert not [m for m in MODULES if m.stem in ("util", "utils", "helper", "helpers", "common", "misc")]


def test_tests_import_torch_inside_functions_only():
    """So that the tests that need it can be counted, and reported as left out, where it is not installed."""
    for file in (ROOT / "tests").rglob("*.py"):
        top = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = imported_names("\n".join(map(ast.unparse, top)))
        assert not {name.partition(".")[0] for name in names} & {"torch", "transformers"}, file


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import surgmotion_jax
names = [m.name for m in pkgutil.walk_packages(surgmotion_jax.__path__, "surgmotion_jax.")]
for name in names:
    importlib.import_module(name)
import jax
from jax._src import xla_bridge
assert not xla_bridge._backends, f"importing started {list(xla_bridge._backends)}"
assert "torch" not in sys.modules
jax.numpy.zeros(())
assert xla_bridge._backends, "this check no longer sees a started backend"
print(len(names))
"""

IMPORT_LITTLE = """
import sys
import tomllib
import surgmotion_jax.__main__
assert surgmotion_jax.__main__.main(["--help"]) == 0
print(sorted({"jax", "flax", "grain", "orbax", "av"} & set(sys.modules)))
"""


def python(code: str) -> str:
    """Last line that `code` prints in a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_importing_every_module_starts_no_backend_and_makes_no_array():
    assert int(python(IMPORT_EVERYTHING)) >= len([m for m in MODULES if m.name != "__init__.py"])


def test_help_imports_nothing_heavy():
    assert python(IMPORT_LITTLE) == "[]"


PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")})
NAMED = re.compile(r"(?<![\w./-])(?:configs|docs|launch|surgmotion_jax|tests|\.ci)/[\w./-]*[\w/]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_documentation_exist(page):
    named = set(NAMED.findall(page.read_text()))
    assert not sorted(name for name in named if not (ROOT / name).exists())


def test_the_architecture_page_names_every_part_and_files_to_look_at():
    text = (ROOT / "docs/architecture.md").read_text()
    assert not [part for part in LEVEL if f"`{part}" not in text]
    assert len(NAMED.findall(text)) > 20


SCRIPTS = ("launch/demo.sh", "launch/study.sh", "launch/test.sh", "launch/local.sh", "launch/tpu_vm.sh", ".ci/run")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_what_they_do(script):
    done = subprocess.run(["bash", script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: bash {script}")
    assert len((ROOT / script).read_text().splitlines()) <= 70


def test_every_folder_of_the_package_is_installed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {".".join(m.parent.relative_to(ROOT).parts) for m in MODULES}
    assert folders == {name for name in listed if not name.startswith("surgmotion_jax.configs")}


def test_what_the_tiers_name_exists():
    assert not [name for name in HEAVY if not (ROOT / "tests" / name).exists()]
    for name in LONG:
        file, _, test = name.split("[")[0].partition("::")
        assert f"def {test}" in (ROOT / "tests" / file).read_text(), name
