"""Where a notebook starts: the finished cases of an experiment, found by its config as ``report.py`` finds them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import hydra

from micota.artifacts.store import Store
from micota.cli import app as commands
from micota.cli import experiments
from micota.cli.report import finished_seeds, report_folder
from micota.config import SCHEMAS, Call
from micota.errors import ArtifactError
from micota.report.collect import CaseReport, case_reports


@dataclass(frozen=True, kw_only=True)
class Results:
    """All cases of an experiment, and where their artifacts are."""

    store: Store
    cases: list[CaseReport]
    call: Call


def load(*overrides: str) -> Results:
    """The experiment that ``python pipeline.py OVERRIDES`` ran. A relative artifacts folder is one of the repository.

    Raises:
        ConfigError: an override is not accepted.
        ArtifactError: the experiment has not been run.
    """
    call = Call(overrides=list(overrides))
    with hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        config = commands.prepare(hydra.compose("report", list(overrides)), SCHEMAS["report"], call)
        config.artifacts = str(commands.CONF.parent / Path(config.artifacts).expanduser())
        cases = experiments.cases(config)
    store = Store(config.artifacts)
    by_seed = finished_seeds(config, cases, store, report_folder(config, cases))
    if not by_seed:
        raise ArtifactError(f"there is nothing to read yet; run:  {shlex.join(call.words('pipeline', call.overrides))}")
    return Results(store=store, cases=case_reports(store, config.name, by_seed), call=call)
