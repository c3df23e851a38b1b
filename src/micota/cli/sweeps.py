"""Sweeps of a command over several points (``-m``): all points are checked before the first of them runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from micota.errors import ConfigError

JOBS = ".submitit"  # the folder of submitit's jobs, below that of the sweep
RECORD = "multirun.yaml"  # of Hydra: the config that all points share
_record: Path | None = None  # where this sweep writes it anew
_is_plan = False
_checks: list[Callable[[list[list[str]]], None]] = []  # of the command that runs


def check_with(check: Callable[[list[list[str]]], None]) -> None:
    """Let ``check`` get the overrides of all points of a sweep before it starts; it exits where one is refused."""
    _checks[:] = [check]


class Points(Callback):
    """What Hydra calls before a sweep, as ``hydra.callbacks`` of the config."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the points. Hydra composes them all first too, but writes its record before, and parses none."""
        global _record, _is_plan
        folder = Path(config.hydra.sweep.dir)
        _is_plan = bool(config.plan)
        _record = None if (folder / RECORD).exists() else folder / RECORD
        if folder_of_jobs := config.hydra.launcher.get("submitit_folder"):
            keep_private(Path(str(folder_of_jobs).partition("%")[0]))
        if not _is_grid(config.hydra.sweeper):
            return  # of a search, whose points are not known yet
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        [points] = BasicSweeper.split_arguments(overrides, None)
        for check in _checks:
            check(points)


def keep_private(folder: Path) -> None:
    """Let nobody else write to the folder of submitit's jobs, which unpickle what is in it.

    Raises:
        ConfigError: the folder is that of another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(
            f"{folder} is that of another user, and jobs run what is in it; accepted: artifacts=FOLDER of your own"
        )
    folder.chmod(0o700)


def check_objective(value: Any, config: Any) -> None:
    """Refuse a search over a command that has nothing to optimise.

    Raises:
        ConfigError: the text has the commands that have an objective.
    """
    hydra_config = HydraConfig.get()
    is_search = hydra_config.mode == RunMode.MULTIRUN and not _is_grid(hydra_config.sweeper)
    if is_search and value is None:
        name = hydra_config.job.config_name
        seen = "plan=true" if config.plan else f"micota {name} with these settings"
        raise ConfigError(
            f"hydra/sweeper={hydra_config.runtime.choices['hydra/sweeper']}: {seen} has no objective; accepted: "
            "pipeline with scores among compare.measures, evaluate, or train with sft.validation_fraction above 0"
        )


def _is_grid(sweeper: Any) -> bool:
    """Whether a sweeper is Hydra's own, which runs every point of a grid."""
    return str(sweeper["_target_"]).endswith(BasicSweeper.__name__)


@contextmanager
def no_record_of_failures() -> Iterator[None]:
    """Remove Hydra's record of a sweep that fails or only plans, with its folders where they are empty: such a command
    leaves nothing behind."""
    global _record
    made = False
    try:
        yield
        made = not _is_plan
    finally:
        if _record is not None and not made:
            with suppress(OSError):
                _record.unlink(missing_ok=True)  # a search has none, and a folder for its results
                for folder in (_record.parent / JOBS, *list(_record.parents)[:2]):
                    with suppress(FileNotFoundError):
                        folder.rmdir()
        _record = None
