"""One merge, from models to a checked model folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from micota.checkpoint import SHARD_BYTES, CheckpointWriter, Form
from micota.export import export_settings
from micota.graph import MergeSpec
from micota.merging.adapter import generation_config
from micota.merging.methods import Tally
from micota.merging.models import Location, Model, check_room, open_models, tensor_names
from micota.merging.report import write_report
from micota.merging.stream import OUTPUT, ModelMerge
from micota.merging.verify import Conversation, verify

HEADROOM_BYTES = 2 * 10**7  # tokenizer, settings, report


def merge_models(
    spec: MergeSpec,
    base: Location,
    tuned: Sequence[Location],
    folder: Path,
    conversation: Conversation,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, float]:
    """Merge ``tuned`` into ``base`` and write a checked model with the tokenizer and settings of ``tuned[0]``.

    Args:
        spec: method and parameters, without a length to calibrate to.
        base: the model that task vectors start from.
        tuned: the model after SFT, and where base is the pre-trained model, the one before SFT too.
        folder: is there already; the model and ``merge.json`` are written into it.
        conversation: what the merged model is asked for a sample; words that its tokenizer knows.
        shard_bytes: most of one weight file, unless a tensor alone is larger.

    Returns:
        Norms of the task vector (after - base) and of what the merge made of it, over all weights, and the share of
        the task vector's elements that was dropped.

    Raises:
        ConfigError: the models do not fit each other, the disk is too small, or the result is not as it should be.
    """
    with open_models([base, *tuned], folder / "scratch", OUTPUT[spec.dtype].itemsize) as models:
        names = tensor_names(models)
        check_room(folder, size_of(models[0], names, spec))
        write_settings(models[1], spec, folder)
        tallies = _write(spec, models, names, folder, shard_bytes)
        sample = verify(folder, models[0], models[1], names, OUTPUT[spec.dtype], conversation)
        return write_report(folder, spec, tallies, sample)


def _write(
    spec: MergeSpec, models: Sequence[Model], names: list[str], folder: Path, shard_bytes: int
) -> dict[str, Tally]:
    merge = ModelMerge(spec, models[0].checkpoint, [model.checkpoint for model in models[1:]], names)
    forms = {name: Form(shape, merge.dtype) for name, shape in merge.shapes.items()}
    with closing(CheckpointWriter(folder, forms, shard_bytes)) as writer:
        return merge.write(writer)


def size_of(base: Model, names: Sequence[str], spec: MergeSpec) -> int:
    """Bytes that the merged model will take on disk."""
    elements = sum(base.checkpoint.entries[name].num_elements for name in names)
    return elements * OUTPUT[spec.dtype].itemsize + HEADROOM_BYTES


def write_settings(tuned: Model, spec: MergeSpec, folder: Path) -> None:
    """Write config, generation config and tokenizer of the fine-tuned model: those it was taught with."""
    config: Any = tuned.config
    config.dtype = OUTPUT[spec.dtype]
    export_settings(config, generation_config(tuned.folder, config), tuned.tokenizer, folder)
