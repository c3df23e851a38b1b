"""The audits of determinism of a comparison's models, where ``micota doctor determinism`` made some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.left_out import leaving_out
from micota.artifacts.manifest import MANIFEST, Manifest, read_manifest
from micota.artifacts.store import Store, verified_folder
from micota.graph import Comparison
from micota.graph.node import AnyNode
from micota.graph.specs import DeterminismSpec
from micota.records import REPETITIONS, Repetition


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The runs of one evaluation, of ``name`` (model and benchmark), on the machine ``hardware``."""

    name: str
    hardware: str
    rows: list[Repetition]


def audits_of(store: Store, comparisons: Iterable[Comparison]) -> list[Audit]:
    """Return the audits of all models of finished comparisons, by name. Damaged ones are left out, and named on
    the console: the report does not need them."""
    models = {node.inputs["completions"].inputs["model"].key for made in comparisons for node in _graded(made)}
    audits, folder = [], store.root / DeterminismSpec.kind
    with leaving_out(folder) as attempt:
        for path in sorted(folder.glob(f"*/{MANIFEST}")):
            with attempt():
                manifest = read_manifest(path.parent)
                if manifest.inputs["model"]["key"] in models:
                    rows = read_jsonl(verified_folder(path.parent) / REPETITIONS, Repetition)
                    audits.append(Audit(name=manifest.name, hardware=_machine(manifest), rows=rows))
    return audits


def _graded(comparison: Comparison) -> Iterator[AnyNode]:
    """The scores of all models of a comparison."""
    of_ta = (*comparison.curve.values(), comparison.merged)
    for scores in (*(recipe.scores for recipe in comparison.recipes), *of_ta, comparison.teacher):
        yield from scores.values()


def _machine(manifest: Manifest) -> str:
    """The machine that made an artifact, in words."""
    return ", ".join(f"{name} {value}" for name, value in manifest.hardware.items() if isinstance(value, str | int))
