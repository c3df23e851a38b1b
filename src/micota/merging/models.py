"""The models of a merge: local folders of full weights, and checks that they fit each other."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from micota.checkpoint import Checkpoint
from micota.errors import ConfigError, MachineError, ModelError, SourceError
from micota.merging.adapter import write_adapted
from micota.merging.adapter_settings import read_settings
from micota.merging.structure import OUTPUTS, Structure, check_output, with_same_names
from micota.merging.vocabulary import AlignedCheckpoint, has_rows_of_tokens, other_tokens
from micota.pretrained import ADAPTER, load_config, load_tokenizer, reading

logger = logging.getLogger(__name__)
Location = tuple[str, str | None]  # folder or hub id, and revision

# Must agree, as the shapes of tensors must; the rest (context length, token ids, dtype) may differ in a fine-tune.
SAME = (
    *("model_type", "hidden_size", "num_hidden_layers", "intermediate_size"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "tie_word_embeddings"),
)
ACCEPTED = "accepted: a model and a fine-tune of it"
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Model:
    """One open model of a merge."""

    folder: Path
    config: Any
    tokenizer: Any
    checkpoint: Checkpoint


@contextmanager
def open_models(locations: Sequence[Location], scratch: Path, itemsize: int | None = 0) -> Iterator[list[Model]]:
    """Open the base and the fine-tuned models; LoRA adapters are applied first.

    The folder ``scratch`` exists while they are open. ``itemsize`` is the size in bytes of an element of the merged
    model, None if it is that of the fine-tuned one. The disk must have space for an adapted model and the merged one
    before either is written.

    Raises:
        ConfigError: they cannot be read, or do not fit each other.
        MachineError: the disk is too small.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        models = []
        try:
            for number, location in enumerate(locations):
                folder = with_adapter(local_folder(location), scratch / f"adapted-{number}", itemsize)
                checkpoint = stack.enter_context(Checkpoint.open(folder))
                models.append(Model(folder, load_config(folder), load_tokenizer(folder), checkpoint))
                check_output(checkpoint, models[-1].config)
                check_rows(models[-1])
            yield aligned(models)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def local_folder(location: Location) -> Path:
    """The local folder of a location, downloaded from the hub if it is not local.

    Raises:
        ModelError: it is neither a local folder nor on the hub.
    """
    path, revision = location
    if not Path(path).is_dir():
        from huggingface_hub import snapshot_download

        with reading(path, revision, "files"):
            path = snapshot_download(path, revision=revision, allow_patterns=FILES)
    return Path(path)


def with_adapter(folder: Path, target: Path, itemsize: int | None) -> Path:
    """The folder; if it holds a LoRA adapter, ``target`` with its model and the adapter applied.

    Raises:
        ConfigError: the adapter cannot be applied, or its model is missing.
        MachineError: the disk is too small.
    """
    if not (folder / ADAPTER).exists():
        return folder
    settings = read_settings(folder)
    try:
        model = local_folder(settings.model)
    except ModelError as error:
        raise SourceError(
            f"{folder}: the adapter, or the model that it names, cannot be read ({error}); accepted: a "
            "folder with both, or a hub id that can be reached"
        ) from error
    if (model / ADAPTER).exists():
        raise ConfigError(
            f"{folder / ADAPTER} names {model}, which is an adapter too; accepted: an adapter of a whole model"
        )

    def check(num_elements: int, num_bytes: int) -> None:
        merged = num_bytes if itemsize is None else num_elements * itemsize
        check_disk(target.parent, num_bytes + merged, "the model with its adapter applied and the merged model need")

    write_adapted(settings, model, target, check)
    return target


def check_disk(folder: Path, num_bytes: int, what: str = "the merged model needs") -> None:
    """Refuse a disk that is too small for ``what``.

    Raises:
        MachineError: the text states the needed and the free space.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise MachineError(
            f"{what} {num_bytes / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free; "
            "free some, or choose another disk with artifacts=FOLDER"
        )


def tensor_names(models: Sequence[Model]) -> list[str]:
    """The tensors to merge, in the order of the base; without the output embeddings of a tied model."""
    tied = models[0].config.get_text_config().tie_word_embeddings
    return [name for name in models[0].checkpoint.entries if not (tied and name.endswith(OUTPUTS))]


def check_settings(base: Any, tuned: Any, where: str) -> None:
    """Refuse configs of models that are not a model and a fine-tune of it.

    Args:
        where: the beginning of the error, which names both models.

    Raises:
        ConfigError: the text names the first setting that differs.
    """
    for key in SAME:
        first, second = (getattr(config.get_text_config(), key, None) for config in (base, tuned))
        if first != second:
            raise ConfigError(f"{where}: {key} is {first!r} in the one and {second!r} in the other; {ACCEPTED}")


def check_loads_in_place(model: Model, names: Sequence[str]) -> None:
    """Refuse a model whose files have other names than its loaded form, as fused experts, for merges in memory.

    Raises:
        ConfigError: the text names the first such tensor.
    """
    loaded = Structure.of(model.folder, model.config).shapes
    other = next((name for name in names if name not in loaded), None)
    if other is not None:
        raise ConfigError(
            f"{model.folder}: transformers loads {other} of model type {model.config.model_type} under another name, "
            "so that engine=hf cannot take merges in memory; accepted: engine=vllm, or merges that are written (no "
            "sweep=true, no merge.target_length_ratio)"
        )


def check_rows(model: Model) -> None:
    """Refuse a model with tokens that have no row.

    Raises:
        ConfigError: the tokenizer has an id at or above the number of rows of the embeddings.
    """
    rows = [entry.shape[0] for name, entry in model.checkpoint.entries.items() if has_rows_of_tokens(name)]
    token, last = max(model.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    if rows and last >= min(rows):
        raise ConfigError(
            f"{model.folder}: its tokenizer has the token {token!r} at id {last}, and its embeddings have {min(rows)} "
            "rows; accepted: a row for each token"
        )


def check_pair(base: Model, tuned: Model) -> list[int]:
    """The ids of tokens that differ between a model and a fine-tune of it.

    Raises:
        ConfigError: architecture, shapes, or more of the tokenizers than added tokens differ; the text names the first
            difference.
    """
    where = f"{base.folder} and {tuned.folder} cannot be merged"
    check_settings(base.config, tuned.config, where)
    shapes = [
        {
            # The number of rows for tokens may differ in padding.
            name: shape[1:] if has_rows_of_tokens(name) else shape
            for name in tensor_names([model])
            for shape in [model.checkpoint.entries[name].shape]
        }
        for model in (base, tuned)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        first, second = (shape.get(name, "missing") for shape in shapes)
        if first != second:
            raise ConfigError(f"{where}: {name} is {first} in the one and {second} in the other; {ACCEPTED}")
    return other_tokens(base.tokenizer, tuned.tokenizer, where)


def aligned(models: Sequence[Model]) -> list[Model]:
    """The models of a merge, of which all have the rows of the fine-tuned model (the second) for tokens that differ.

    Raises:
        ConfigError: as of ``check_pair``.
    """
    same = with_same_names([model.checkpoint for model in models])
    models = [replace(model, checkpoint=one) for model, one in zip(models, same, strict=True)]
    tuned = models[1]
    result = []
    for model in models:
        tokens = [] if model is tuned else check_pair(model, tuned)
        rows = [
            [one.checkpoint.entries[name].shape[0] for name in one.checkpoint.entries if has_rows_of_tokens(name)]
            for one in (model, tuned)
        ]
        if tokens or rows[0] != rows[1]:
            logger.info("%d tokens of %s are others, and %s rows", len(tokens), model.folder, rows)
            model = replace(model, checkpoint=AlignedCheckpoint(model.checkpoint, tuned.checkpoint, tokens))
        result.append(model)
    return result
