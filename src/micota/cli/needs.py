"""What experiments need of an artifacts folder, at their seeds and at those of their reports."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from micota.artifacts.inventory import Needs, points_of
from micota.cli import experiments
from micota.cli.composing import composing, prepared
from micota.cli.report import SEEDS, report_folder, reported_seeds
from micota.config import override_key
from micota.errors import ConfigError
from micota.graph import MergeSweepSpec, experiment
from micota.graph.node import AnyNode

SEED = re.compile("[0-9]{1,9}")


def needs_of(overrides: Sequence[str], config_dir: str | None) -> Needs:
    """What experiments need, at their seed and at all seeds of their reports.

    Args:
        overrides: those of ``micota pipeline``; commas give several experiments, as ``experiment=tiny,bpc seed=0,1``.

    Raises:
        ConfigError: an override is not accepted.
    """
    needs: dict[str, set[str]] = {}
    with composing(config_dir):
        for chosen, seeds in _with_seeds(_each(overrides)):
            config = prepared(chosen, "pipeline", config_dir)
            cases = experiments.cases(config)
            every = {config.seed, *seeds, *reported_seeds(report_folder(config, cases) / SEEDS)}
            for seed in sorted(every):
                targets = experiment([case.at_seed(seed) for case in cases]).targets()
                needs.setdefault(config.name, set()).update(folders_of(targets))
    return needs


def _each(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each experiment of a sweep."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(f"{error}; accepted: KEY=VALUE") from None
    options = [
        [f"{item.key_or_group}={value}" for value in item.sweep_string_iterator()]
        if item.is_sweep_override()
        else [item.input_line or ""]
        for item in parsed
    ]
    return map(list, itertools.product(*options))


def _with_seeds(every: Iterable[list[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """The experiments of a sweep that differ in more than their seed, each with its other seeds: to compose one takes
    about a second, and to give it another seed takes none."""
    found: dict[tuple[str, ...], tuple[list[str], list[int]]] = {}
    for chosen in every:
        seeds = [value for key, _, value in (item.partition("=") for item in chosen) if key == "seed"]
        if len(seeds) != 1 or not SEED.fullmatch(seeds[0]):  # which is refused when it is composed
            yield chosen, []
            continue
        rest = tuple(item for item in chosen if override_key(item) != "seed")
        found.setdefault(rest, (chosen, []))[1].append(int(seeds[0]))
    yield from found.values()


def folders_of(targets: Sequence[AnyNode]) -> Iterator[str]:
    """The folders of nodes and of all that they are made from, and what stands for the points of merge sweeps."""
    for target in targets:
        for node in target.walk():
            if not node.is_source:
                yield node.folder
            if isinstance(node.spec, MergeSweepSpec):
                yield points_of({label: child.key for label, child in node.inputs.items()})
