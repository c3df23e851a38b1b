"""The documentation site builds without a warning and asks for nothing from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import ROOT

pytest.importorskip("mkdocs", reason="needs the docs extra: pip install 'micota[docs]'")
pytestmark = pytest.mark.thorough  # the site takes long to build; test_keys.py has the reference of all keys


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    finished = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def test_pages_load_nothing_from_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)|<link[^>]*\shref=\"([^\"]+)", text)
        outside = [link for pair in loaded for link in pair if link.startswith(("http:", "https:", "//"))]
        assert not outside, f"{page.name}: {outside}"


def test_the_reference_has_every_command_group_and_stage(site: Path) -> None:
    from micota.config import SCHEMAS
    from micota.graph.stage import registered

    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    stages = (site / "reference" / "stages.html").read_text(encoding="utf-8")
    options = (site / "reference" / "options.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in commands for name in SCHEMAS)
    assert all(f'id="{name}"' in stages for name in registered())
    assert all(f'id="{path.name}"' in options for path in (ROOT / "conf").iterdir() if path.is_dir())


def test_the_reference_has_every_entry_of_the_tables(site: Path) -> None:
    import micota.data.filters
    import micota.engines
    import micota.grading.graders
    from micota.config import ENGINES, FILTERS, GRADERS, MERGE_METHODS

    assert micota.data.filters and micota.engines and micota.grading.graders  # their entries
    methods = (site / "reference" / "merge-methods.html").read_text(encoding="utf-8")
    tables = (site / "reference" / "tables.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in methods for name in MERGE_METHODS)
    assert all(f"<code>{name}</code>" in tables for table in (ENGINES, FILTERS, GRADERS) for name in table)


def test_the_reference_has_every_key(site: Path) -> None:
    keys = (site / "reference" / "keys.html").read_text(encoding="utf-8")
    for key in (
        "select.num_examples",
        "trainer.pack_length",
        "engine.server.url",
        "student.sft.lora.r",
        "merge.density",
    ):
        assert key in keys, key
