"""The folder of the YAML groups."""

from __future__ import annotations

from pathlib import Path


def conf_folder() -> Path:
    """The folder ``conf``: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"
