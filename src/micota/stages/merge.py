"""The TA before and after SFT -> the merged TA."""

from __future__ import annotations

import logging
from dataclasses import asdict

from micota.graph import MergeSpec
from micota.merging import merge_models
from micota.stages.inputs import model_location
from micota.stages.make import Work

logger = logging.getLogger(__name__)


def merge(work: Work) -> None:
    """Merge, check, and write a model that loads as it is."""
    spec: MergeSpec = work.node.spec
    base = model_location(work.store, work.node.inputs["base"])
    tuned = model_location(work.store, work.node.inputs["tuned"])
    work.build.metrics |= merge_models(asdict(spec), base, tuned, work.build.path, spec.seed)
    logger.info("merged %s: %s", work.node.name, work.build.metrics)
