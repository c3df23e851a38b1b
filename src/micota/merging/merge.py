"""One merge, from models to a checked model folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from micota.checkpoint import SHARD_BYTES, CheckpointWriter, Form
from micota.export import export_settings
from micota.graph import MergeSpec
from micota.merging.adapter import drop_quantization, generation_config
from micota.merging.methods import Tally
from micota.merging.models import Location, Model, check_disk, open_models, tensor_names
from micota.merging.report import write_report
from micota.merging.stream import OUTPUT, ModelMerge, output_dtype
from micota.merging.verify import LOADED, Conversation, verify

HEADROOM_BYTES = 2 * 10**7  # tokenizer, settings, report


def merge_models(
    spec: MergeSpec,
    base: Location,
    tuned: Sequence[Location],
    folder: Path,
    conversation: Conversation,
    shard_bytes: int = SHARD_BYTES,
    prepare: Callable[[Any], None] = lambda tokenizer: None,
    device: str = "cpu",
) -> dict[str, float]:
    """Merge ``tuned`` into ``base`` and write a checked model with the tokenizer and settings of ``tuned[0]``.

    Args:
        spec: method and parameters, without a target length.
        base: the base of the task vectors.
        tuned: the model after SFT; if the base is the pre-trained model, the model before SFT too.
        folder: an existing folder; the model and ``merge.json`` are written into it.
        conversation: the prompt for a sample of the merged model.
        prepare: changes the tokenizer of ``tuned[0]`` before it is written, as its chat template.
        shard_bytes: size limit of one weight file; a larger tensor has a file to itself.
        device: where slices are merged; their values are read from files and written there.

    Returns:
        Norms over all weights of the task vector (after - base) and of the merged vector (merged - base), and the
        share of the task vector's elements that was dropped.

    Raises:
        ConfigError: the models do not fit each other, or a check of the result fails.
        MachineError: the disk is too small.
    """
    itemsize = None if spec.dtype == "auto" else OUTPUT[spec.dtype].itemsize
    with open_models([base, *tuned], folder / "scratch", itemsize) as models:
        prepare(models[1].tokenizer)
        names, dtype = tensor_names(models), output_dtype(spec, models[1].checkpoint)
        size = size_of(models[0], names, dtype)
        check_disk(folder, size + offloaded_bytes(models[0], size))
        write_settings(models[1], dtype, folder)
        tallies = _write(spec, models, names, folder, shard_bytes, device)
        sample = verify(folder, models[0], models[1], names, dtype, conversation)
        return write_report(folder, spec, tallies, sample)


def _write(
    spec: MergeSpec, models: Sequence[Model], names: list[str], folder: Path, shard_bytes: int, device: str
) -> dict[str, Tally]:
    merge = ModelMerge(spec, models[0].checkpoint, [model.checkpoint for model in models[1:]], names, device)
    forms = {name: Form(shape, merge.dtype) for name, shape in merge.shapes.items()}
    with closing(CheckpointWriter(folder, forms, shard_bytes)) as writer:
        return merge.write(writer)


def size_of(base: Model, names: Sequence[str], dtype: torch.dtype) -> int:
    """The size of the merged model on disk in bytes."""
    elements = sum(base.checkpoint.entries[name].num_elements for name in names)
    return elements * dtype.itemsize + HEADROOM_BYTES


def offloaded_bytes(base: Model, size: int) -> int:
    """The most that the check of a merged model of ``size`` bytes may write to disk: of mixtures of experts, what does
    not fit in memory, in the form that transformers fuses the experts into."""
    settings = base.config.get_text_config()
    has_experts = any(getattr(settings, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
    return size if has_experts and size > LOADED["cpu"] else 0


def write_settings(tuned: Model, dtype: torch.dtype, folder: Path) -> None:
    """Write config, generation config and tokenizer of the fine-tuned model, with the dtype of the merge."""
    config: Any = tuned.config
    config.dtype = dtype
    drop_quantization(config)
    source = (str(tuned.folder), None)
    export_settings(config, generation_config(tuned.folder, config), tuned.tokenizer, folder, source)
