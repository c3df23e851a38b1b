"""Finished trainings, from the manifests of a store or from a table: what was known before, and what was gained."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from micota.analysis.forecast import FEATURES, Outcome
from micota.artifacts.left_out import each_manifest
from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.artifacts.strict_json import repeated
from micota.config.local_files import text_of_file
from micota.data.files import BUNDLED, bundled
from micota.errors import ConfigError
from micota.visible import FORMULA

COLUMNS = ("student", "recipe", "seed", "gain")
Accuracies = Mapping[str, Mapping[str, float]]  # by key of the model and by evaluation


def finished_trainings(store: Store) -> list[Outcome]:
    """Return every training of a store whose student was scored before and after on the same problems in the same way,
    and whose data were measured under the student before SFT.

    The gain is the mean over the benchmarks that both have. Damaged artifacts are left out, and named on the console: a
    forecast from the others is one.
    """
    accuracies = _accuracies(store)
    measured = {
        (manifest.inputs["model"]["key"], manifest.inputs["data"]["key"]): manifest
        for manifest in each_manifest(store.root, "bpc")
    }
    found = []
    for trained in each_manifest(store.root, "models"):
        if not {"model", "data"} <= trained.inputs.keys():
            continue
        student, data = trained.inputs["model"], trained.inputs["data"]
        before, after = accuracies.get(student["key"], {}), accuracies.get(trained.key, {})
        shared = sorted(before.keys() & after.keys())
        data_measured = measured.get((student["key"], data["key"]))
        if shared and data_measured is not None:
            known = measures_of(data_measured)
            known["accuracy_before"] = float(np.mean([before[one] for one in shared]))
            found.append(
                Outcome(
                    student=f"{student['name']}-{student['key']}",
                    recipe=data["name"],
                    seed=trained.seed,
                    known=known,
                    gain=float(np.mean([after[one] - before[one] for one in shared])),
                )
            )
    return found


def measures_of(measured: Manifest) -> dict[str, float]:
    """Return what the BPC of a recipe's data says of the recipe and its student: keys of ``FEATURES``."""
    return {name: value for name, value in (measured.metrics | measured.counts).items() if name in FEATURES}


def _accuracies(store: Store) -> Accuracies:
    answered = {manifest.key: manifest for manifest in each_manifest(store.root, "completions")}
    found: dict[str, dict[str, float]] = {}
    for graded in each_manifest(store.root, "scores"):
        answers = answered.get(graded.inputs["completions"]["key"])
        if answers is not None and "accuracy" in graded.metrics:
            # The same problems, prompt, sampling and grader, whatever the model.
            evaluation = json.dumps([graded.config, answers.config], sort_keys=True)
            found.setdefault(answers.inputs["model"]["key"], {})[evaluation] = graded.metrics["accuracy"]
    return found


def all_outcomes(store: Store, table: str | None, without: str) -> list[Outcome]:
    """Return the finished trainings of a store and of a table, without those of one student, each once.

    Raises:
        ConfigError: the table cannot be read.
    """
    rows = [*finished_trainings(store), *(read_table(table) if table else [])]
    unique = {(one.student, one.recipe, one.seed, one.gain): one for one in rows if one.student != without}
    return [unique[key] for key in sorted(unique)]


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return outcomes as CSV: student, recipe, seed, gain, and every measure that one of them has."""
    names = [name for name in FEATURES if any(name in one.known for one in outcomes)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for one in outcomes:
        writer.writerow(
            [one.student, one.recipe, one.seed, repr(one.gain), *(one.known.get(name, "") for name in names)]
        )
    return text.getvalue()


def read_table(path: str) -> list[Outcome]:
    """Read outcomes as :func:`as_table` writes them, from a file or ``bundled:NAME.csv``. Empty cells are unknown.

    Raises:
        ConfigError: the file is missing, or a row is wrong; the text has its line.
    """
    try:
        file = bundled("outcomes", path) if path.startswith(BUNDLED) else Path(path).expanduser()
        text = text_of_file(file, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"outcomes={path}: {error}; accepted: a CSV file") from None
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        names = list(reader.fieldnames or [])
        if (twice := repeated(names)) is not None:
            raise ConfigError(f"{path}:1: the header names {twice!r} twice; accepted: one column of a name")
        if lacking := [name for name in COLUMNS if name not in names]:
            raise ConfigError(f"outcomes={path}: there is no column {lacking[0]}; accepted: {', '.join(COLUMNS)}")
        return [_outcome(row, f"{path}:{reader.line_num}") for row in reader]
    except csv.Error as error:
        raise ConfigError(
            f"{path}:{reader.reader.line_num}: not valid CSV ({error}); accepted: cells with commas, quotes or line "
            "breaks in double quotes"
        ) from None


def _outcome(row: Mapping[str | None, Any], where: str) -> Outcome:
    if None in row or None in row.values():
        raise ConfigError(f"{where}: more or fewer cells than the header has; accepted: as many cells as columns")
    for name in ("student", "recipe"):
        # Names stand in tables and in the CSV of the forecast, where a spreadsheet computes what begins with =.
        if not row[name].strip() or not row[name].isprintable() or row[name].startswith(FORMULA):
            raise ConfigError(
                f"{where}: {name}={row[name]!r}; accepted: a name that is not empty, and begins with none of = + - @"
            )
    if not row["seed"].strip().isdecimal():
        raise ConfigError(f"{where}: seed={row['seed']!r}; accepted: a whole number of at least 0")

    def number(name: str) -> float:
        value = row[name]
        try:
            found = float(value or "")
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise ConfigError(f"{where}: {name}={value!r}; accepted: a finite number")
        return found

    if abs(gain := number("gain")) > 1:
        raise ConfigError(f"{where}: gain={row['gain']!r}; accepted: a share from -1 to 1, as 0.05 for 5 points")
    return Outcome(
        student=row["student"],
        recipe=row["recipe"],
        seed=int(row["seed"]),
        gain=gain,
        known={name: number(name) for name in FEATURES if row.get(name)},
    )


def sum_of(outcomes: Sequence[Outcome]) -> str:
    """Return the SHA-256 of outcomes, which enters the key of a forecast."""
    return hashlib.sha256(as_table(outcomes).encode()).hexdigest()
