"""The site builds, and a warning would end the build."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.docs.pages import PAGES, ROOT


def build(config, folder):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_without_a_warning(tmp_path):
    done = build(".mkdocs.yml", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "load_encoder" in (tmp_path / "site/api/index.html").read_text()


def test_every_page_is_on_the_site():
    listed = set(re.findall(r": ([\w/]+\.md)$", (ROOT / ".mkdocs.yml").read_text(), re.MULTILINE))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert listed == pages


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1300
