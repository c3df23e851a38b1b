"""The TA before and after SFT -> the merged TA."""

from __future__ import annotations

import logging

from micota.artifacts.jsonl import read_jsonl
from micota.graph import MergeSpec
from micota.merging.merge import merge_models
from micota.records import DATA, Example
from micota.runtime.inputs import input_path, model_location
from micota.runtime.work import Work
from micota.stages.merge_sweep import calibrated, merge_order

logger = logging.getLogger(__name__)


def merge(work: Work[MergeSpec]) -> None:
    """Merge, check, and write a model that loads as it is."""
    spec = work.node.spec
    inputs = work.node.inputs
    if "calibration" in inputs:
        spec = calibrated(spec, input_path(work.store, inputs["calibration"]))
    base, *tuned = (model_location(work.store, inputs[label]) for label in merge_order(inputs))
    work.build.metrics |= merge_models(spec, base, tuned, work.build.path, _conversation(work))
    logger.info(
        "merged %s with density %s and weight %s: %s", work.node.name, spec.density, spec.weight, work.build.metrics
    )


def _conversation(work: Work[MergeSpec]) -> list[dict[str, str]]:
    """What the merged TA is asked for a sample: its first training problem, if the data are still there."""
    data = work.store.path(work.node.inputs["tuned"].inputs["data"]) / DATA
    return read_jsonl(data, Example)[0].messages if data.exists() else [{"role": "user", "content": "What is 2 + 2?"}]
