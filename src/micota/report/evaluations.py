"""Finished evaluations by name, and their paired comparison on the problems that they have in common."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from micota.analysis.intervals import Estimate
from micota.analysis.statistics import (
    Difference,
    Discordance,
    average_at_k,
    macro_average,
    mcnemar,
    paired_difference,
    problem_means,
    simultaneous,
)
from micota.artifacts.inventory import Inventory, Item
from micota.artifacts.manifest import OtherSchemaError, read_manifest
from micota.artifacts.scores import read_scores
from micota.artifacts.store import verified_folder
from micota.data.sources import read_rows
from micota.errors import ArtifactError, SourceError
from micota.records import SCORES
from micota.report.rows import Graded, samples_by_problem

KIND = "scores"
NAMES_SHOWN = 8
Means = dict[str, dict[str, float]]  # benchmark -> problem id -> mean over samples and seeds


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of one model, by benchmark, over the seeds at which it was evaluated.

    ``items`` are the artifacts of each benchmark, empty for a file of graded rows.
    """

    name: str
    samples: dict[str, dict[str, list[bool]]]
    num_tokens: float | None = None
    items: dict[str, list[Item]] = field(default_factory=dict)

    @property
    def means(self) -> Means:
        return {bench: problem_means(samples) for bench, samples in self.samples.items()}


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two evaluations on their common problems.

    ``first`` and ``second`` are accuracies by benchmark there (and ``average``), ``num_left_out`` counts the problems
    that only one side has. ``discordance`` is empty where problems have several samples or seeds.
    """

    names: tuple[str, str]
    first: dict[str, Estimate]
    second: dict[str, Estimate]
    num_problems: dict[str, int]
    num_left_out: dict[str, int]
    difference: Difference
    by_benchmark: dict[str, Difference]
    discordance: dict[str, Discordance]


def evaluation(inventory: Inventory | None, word: str) -> Evaluation:
    """The evaluation that a word names.

    Args:
        inventory: of the artifacts folder; None if there is no such folder.
        word: a file of graded rows (``FILE.scores.jsonl`` of ``grade=``), the folder, ``NAME-KEY`` or key of one
            scores artifact, the name of a model (``tiny_student+micota``; all its benchmarks), or of a recipe
            (``micota``; the one student that was tuned on it).

    Raises:
        ArtifactError: there is no such evaluation, or there are several; the text lists them.
        SourceError: a file does not have rows of scores.
    """
    path = Path(word).expanduser()
    if path.is_file():
        return _of_file(path)
    if path.is_dir() and (path / SCORES).is_file():
        return _of_items(word, [_item(path)])
    if inventory is None:
        raise ArtifactError(
            f"{word!r}: no such file or folder, and there is no artifacts folder to look it up in; accepted: "
            "artifacts=FOLDER, or the file or folder of an evaluation"
        )
    items = [item for item in inventory.items if item.kind == KIND and item.state in ("complete", "damaged")]
    exact = [item for item in items if word in (item.key, f"{item.name}-{item.key}", item.folder)]
    if exact:
        return _of_items(word, exact)
    named = [item for item in items if item.name in (word, f"{word}@{bench_of(item)}")]
    named = named or [item for item in items if _recipe(item) == word]
    models = sorted({_model(item) for item in named})
    if len(models) > 1:
        raise ArtifactError(f"{word!r} names evaluations of {len(models)} models; accepted: one of {', '.join(models)}")
    if not named:
        raise ArtifactError(f"{word!r}: no such evaluation in {inventory.root}; accepted: {_known(items)}")
    return _of_items(word, named)


def bench_of(item: Item) -> str:
    """The benchmark of scores."""
    return item.name.rpartition("@")[2]


def _model(item: Item) -> str:
    return item.name.rpartition("@")[0]


def _recipe(item: Item) -> str:
    """What a model was tuned on: ``micota`` of ``tiny_student+micota``; empty for one that was not tuned."""
    return _model(item).partition("+")[2]


def _known(items: Iterable[Item]) -> str:
    models = sorted({_model(item) for item in items})
    shown = ", ".join(models[:NAMES_SHOWN]) + (", ..." if len(models) > NAMES_SHOWN else "")
    return f"a model ({shown}), or the key, folder or file of scores" if models else "none yet; run micota evaluate"


def _item(path: Path) -> Item:
    """The item of a folder of scores, wherever it is."""
    manifest = read_manifest(path)
    return Item(
        folder=f"{KIND}/{path.name}", name=manifest.name, key=manifest.key, state="complete", path=path, num_bytes=0,
        changed=_never(), manifest=manifest,
    )  # fmt: skip


def _never() -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(0, UTC)


def _of_items(name: str, items: Sequence[Item]) -> Evaluation:
    """Scores of one model; several artifacts of a benchmark must be of different seeds."""
    by_bench: dict[str, list[Item]] = defaultdict(list)
    for item in _readable(items):
        by_bench[bench_of(item)].append(item)
    for bench, same in by_bench.items():
        seeds = [item.manifest.seed for item in same if item.manifest]
        if len(set(seeds)) < len(same):
            shown = ", ".join(f"{item.name}-{item.key}" for item in same)
            raise ArtifactError(
                f"{name!r} names {len(same)} evaluations of {bench} with equal seeds; accepted: {shown}"
            )
    samples: dict[str, dict[str, list[bool]]] = {}
    tokens: list[int] = []
    for bench, same in by_bench.items():
        graded: list[Graded] = [{bench: read_scores(verified_folder(item.path))} for item in same]
        samples |= samples_by_problem(graded)
        tokens += [score.num_tokens for seed in graded for score in seed[bench]]
    mean = sum(tokens) / len(tokens) if tokens else None
    return Evaluation(name=name, samples=samples, num_tokens=mean, items=dict(by_bench))


def _readable(items: Iterable[Item]) -> Iterator[Item]:
    """The items without those of another version of micota.

    Raises:
        ArtifactError: one is damaged. Without it, the others would pass for the whole evaluation.
    """
    for item in items:
        if item.state == "complete":
            yield item
        else:
            with suppress(OtherSchemaError):
                verified_folder(item.path)


def _of_file(path: Path) -> Evaluation:
    """Rows that ``grade=`` wrote, or scores.jsonl. They are of no named benchmark."""
    samples: dict[str, list[bool]] = defaultdict(list)
    for number, row in enumerate(read_rows(path), start=1):
        identity = row.get("problem_id", row.get("id"))
        if identity is None or "correct" not in row:
            form = '{"id" or "problem_id", "correct"}, as micota evaluate grade=FILE writes'
            raise SourceError(f"{path}:{number}: no score; accepted: rows {form}")
        samples[str(identity)].append(row["correct"] is True)
    if not samples:
        raise SourceError(f"{path} has no rows; accepted: graded rows, as micota evaluate grade=FILE writes")
    return Evaluation(name=path.name, samples={"answers": dict(samples)})


def pairing(first: Evaluation, second: Evaluation, seed: int = 0) -> Pairing:
    """Compare two evaluations on the benchmarks and problems that both have.

    Raises:
        ArtifactError: they have no problem in common; the text has the benchmarks of both.
    """
    sides, left_out = _common(first, second)
    one, other = ({bench: problem_means(samples) for bench, samples in side.items()} for side in sides)
    if not one:
        benches = [f"{side.name} has {', '.join(side.samples)}" for side in (first, second)]
        raise ArtifactError(
            f"there is no problem in common: {'; '.join(benches)}; accepted: evaluations that share a benchmark"
        )
    binary = all(value in (0, 1) for side in (one, other) for values in side.values() for value in values.values())
    return Pairing(
        names=(first.name, second.name),
        first=_accuracies(sides[0]),
        second=_accuracies(sides[1]),
        num_problems={bench: len(values) for bench, values in one.items()},
        num_left_out=left_out,
        difference=paired_difference(one, other, seed),
        by_benchmark={bench: paired_difference({bench: one[bench]}, {bench: other[bench]}, seed) for bench in one},
        discordance={bench: mcnemar(one[bench], other[bench]) for bench in one} if binary else {},
    )


def _common(first: Evaluation, second: Evaluation) -> tuple[list[dict[str, dict[str, list[bool]]]], dict[str, int]]:
    """The samples of both sides for common problems, and the number of other problems by benchmark."""
    one, other = dict(first.samples), dict(second.samples)
    if not first.items or not second.items:  # a file names no benchmark: it stands for the only one of the other side
        [*names] = {*one, *other} - {"answers"}
        if len(names) == 1:
            one, other = ({names[0]: next(iter(side.values()))} for side in (one, other))
    sides: list[dict[str, dict[str, list[bool]]]] = [{}, {}]
    left_out = {}
    for bench in one:
        if bench not in other:
            continue
        common = [identity for identity in one[bench] if identity in other[bench]]
        left_out[bench] = len(one[bench]) + len(other[bench]) - 2 * len(common)
        if common:
            for side, samples in zip(sides, (one[bench], other[bench]), strict=True):
                side[bench] = {identity: samples[identity] for identity in common}
    return sides, left_out


def _accuracies(side: Mapping[str, Mapping[str, Sequence[bool]]]) -> dict[str, Estimate]:
    estimates: dict[str, Estimate] = {bench: average_at_k(samples) for bench, samples in side.items()}
    average = macro_average({bench: problem_means(samples) for bench, samples in side.items()})
    return estimates | {"average": average}


def pairings(evaluations: Sequence[Evaluation], baseline: str | None = None) -> list[Pairing]:
    """Compare each evaluation with the baseline (by default all pairs), corrected for the number of comparisons.

    Intervals and p-values of the averages are corrected together, those of each benchmark too.

    Raises:
        ArtifactError: two evaluations have no problem in common.
    """
    pairs: Iterator[tuple[Evaluation, Evaluation]] | list[tuple[Evaluation, Evaluation]]
    if baseline is None:
        pairs = combinations(evaluations, 2)
    else:
        [base] = [one for one in evaluations if one.name == baseline]
        pairs = [(one, base) for one in evaluations if one is not base]
    return corrected([pairing(*pair) for pair in pairs])


def corrected(made: Sequence[Pairing]) -> list[Pairing]:
    """Pairings with their averages corrected for the number of pairings, and their benchmarks for the number of all
    benchmarks of all pairings."""
    averages = simultaneous({str(index): pairing.difference for index, pairing in enumerate(made)})
    benches = simultaneous(
        {
            json.dumps([index, bench]): difference
            for index, pairing in enumerate(made)
            for bench, difference in pairing.by_benchmark.items()
        }
    )
    return [
        Pairing(
            **vars(pairing)
            | {
                "difference": averages[str(index)],
                "by_benchmark": {bench: benches[json.dumps([index, bench])] for bench in pairing.by_benchmark},
            }
        )
        for index, pairing in enumerate(made)
    ]
