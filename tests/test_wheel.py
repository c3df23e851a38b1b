"""The wheel holds all that it needs: installed where there is nothing else of ours, it runs the toy setting."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

pytestmark = pytest.mark.slow  # half a minute: it builds a wheel and a virtual environment


@pytest.fixture(scope="module")
def micota(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a virtual environment with the wheel, which sees the other packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # pip builds in place, and would leave its folder build in the checkout
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--no-deps", "--disable-pip-version-check"]
    _run([*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", str(folder), str(source)])
    [wheel] = folder.glob("micota-*.whl")
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    [site] = (folder / "venv").glob("lib/python*/site-packages")
    # A path in a .pth file adds the packages there, and none that is installed in place, as this checkout may be.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    own = str(folder / "venv" / "bin" / "python")
    _run([*pip, "--python", own, "install", *quiet, "--ignore-installed", "--no-index", str(wheel)])
    return folder / "venv" / "bin" / "micota"


def _run(command: list[str], folder: Path | None = None) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "MICOTA"))}
    env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_runs_the_toy_setting_in_an_empty_folder(micota: Path, tmp_path: Path) -> None:
    small = [*SMALL, "compare.recipes=[instruct,strong]", "compare.measures=[scores]"]
    said = _run([str(micota), "pipeline", *small, "runner=subprocess"], tmp_path)
    assert Path(tmp_path, said.splitlines()[-1].removeprefix("report: ")).exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifacts"]


def test_it_is_the_wheel_that_runs(micota: Path, tmp_path: Path) -> None:
    code = "import micota; from micota.config import conf_folder; print(micota.__file__, conf_folder())"
    package, conf = map(Path, _run([str(micota.with_name("python")), "-c", code], tmp_path).split())
    assert package.is_relative_to(micota.parents[1]) and conf == package.parent / "conf"
    shipped, ours = ({str(path.relative_to(root)) for path in root.rglob("*.yaml")} for root in (conf, ROOT / "conf"))
    assert shipped == ours
