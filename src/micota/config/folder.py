"""Where the YAML groups are."""

from __future__ import annotations

from pathlib import Path


def conf_folder() -> Path:
    """The folder ``conf``: in an installed package inside of it, in a checkout at its top."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"
