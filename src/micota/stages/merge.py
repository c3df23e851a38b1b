"""The TA before and after SFT -> the merged TA."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import read_jsonl
from micota.config import Config
from micota.data.chat_template import check_template
from micota.errors import is_users
from micota.graph import MergeSpec
from micota.graph.merge_points import merge_order
from micota.graph.node import AnyNode
from micota.merging.adapter_settings import read_settings
from micota.merging.merge import merge_models
from micota.model_files import TOKENIZER_CONFIG
from micota.pretrained import ADAPTER, load_tokenizer
from micota.records import DATA, Example
from micota.runtime.inputs import check_device, input_path, model_location, template_of
from micota.runtime.work import Work
from micota.stages.merge_inputs import check_models
from micota.stages.merge_sweep import calibrated

QUESTION = "What is 2 + 2?"
logger = logging.getLogger(__name__)


def check(config: Config, node: AnyNode) -> None:
    """Refuse a device that this machine lacks, and models that exist and do not fit each other.

    Raises:
        ConfigError: the text names the key, or both models and what differs.
        SourceError: a model cannot be read.
    """
    check_device(config.merge.device, "merge.device")
    check_models(config, node)


def merge(work: Work[MergeSpec]) -> None:
    """Merge, check, and write the model."""
    spec = work.node.spec
    inputs = work.node.inputs
    if "calibration" in inputs:
        spec = calibrated(spec, input_path(work.store, inputs["calibration"]))
    base, *tuned = (model_location(work.store, inputs[label]) for label in merge_order(inputs))
    prepare = partial(template_of, inputs["tuned"])
    try:
        work.build.metrics |= merge_models(
            spec, base, tuned, work.build.path, conversation_for(work), prepare=prepare, device=work.config.merge.device
        )
    except Exception as error:
        if is_users(error):  # a merge begins from the start each time: its files would only take space
            work.build.clear()
        raise
    logger.info(
        "merged %s with density %s and weight %s: %s", work.node.name, spec.density, spec.weight, work.build.metrics
    )


def conversation_for(work: Work[Any]) -> list[dict[str, str]]:
    """The messages for a sample completion of the merged TA: its first training problem, if the data still exist."""
    made_of = work.node.inputs["tuned"].inputs  # empty for a model that was not trained here
    data = work.store.verified(made_of["data"]) / DATA if "data" in made_of else None
    if data is None or not data.exists():
        text = _words(work.node.inputs["tuned"], *model_location(work.store, work.node.inputs["tuned"]))
        return [{"role": "user", "content": text}]
    return read_jsonl(data, Example)[0].messages


def _words(node: AnyNode, path: str, revision: str | None) -> str:
    """A question; where the tokenizer lacks a word of it, the first eight tokens of the vocabulary. Of an adapter
    without a tokenizer, that of its model counts, as in the merge.

    Raises:
        UserError: the tokenizer cannot be read, or its chat template cannot render a question.
    """
    if (Path(path) / ADAPTER).exists() and not (Path(path) / TOKENIZER_CONFIG).exists():
        path, revision = read_settings(Path(path)).model
    tokenizer = load_tokenizer(path, revision)
    template_of(node, tokenizer)
    if tokenizer.chat_template is not None:
        check_template(tokenizer, path)
    try:
        tokenizer(QUESTION)
    except Exception:  # tokenizers raises no narrower class for a missing word
        known = [number for number in sorted(tokenizer.get_vocab().values()) if number not in tokenizer.all_special_ids]
        return str(tokenizer.decode(known[:8]))
    return QUESTION
