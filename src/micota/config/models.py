"""Schemas of models: their path, sampling and fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from micota.config.fields import SLUG, is_slug, part, plain, positive, slug, where, words
from micota.config.running import EngineConfig
from micota.config.sampling import SamplingConfig
from micota.config.sft import ModelSftConfig
from micota.config.thinking import ThinkingConfig
from micota.config.trainer import TrainerConfig

ROW_FILES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")  # each also with .gz after it

MODEL_FILES = ("config.json", "adapter_config.json")  # a folder with one of them is a model, or an adapter of one
HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)


def local_path(value: str) -> Path:
    """The path that a value names; ``~/`` is the home folder, and any other ``~`` a sign of the name."""
    return Path(value).expanduser() if value.startswith("~/") else Path(value)


def is_row_file(path: str) -> bool:
    """Whether a path names a file of rows, by its suffix."""
    return path.removesuffix(".gz").endswith(ROW_FILES)


def is_day(text: str) -> bool:
    """Whether a text is a day, as ``26 Jul 2024``."""
    try:
        datetime.strptime(text, "%d %b %Y")
    except ValueError:
        return False
    return True


def is_hub_id(path: str) -> bool:
    """Whether a text can be the id of a repository on the hub, as ORG/NAME or, of the oldest ones, NAME."""
    return HUB_ID.fullmatch(path) is not None and not re.search(r"--|\.\.", path)


def name_of(path: str) -> str:
    """The name that follows from a path: its last part, without characters that a folder cannot have."""
    last = path.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    last = last.removesuffix(".gz")
    last = last.removesuffix(next((suffix for suffix in ROW_FILES if last.endswith(suffix)), ""))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-") or "unnamed"


def is_model_path(text: str) -> bool:
    """Whether a text can only be the path of a model, and no word: a folder, a hub id, or bundled:NAME."""
    return ("/" in text.strip("/ ") or text.startswith(("/", "bundled:"))) and not text.isspace()


@dataclass(kw_only=True)
class ShapeConfig:
    """The sizes of a model, from which a plan computes memory and arithmetic before the model is downloaded."""

    layers: int = positive(about="Layers.", results=False)
    hidden: int = positive(about="The width of the residual stream.", results=False)
    intermediate: int = positive(about="The width of the gated MLP.", results=False)
    heads: int = positive(about="Heads of attention.", results=False)
    kv_heads: int = positive(about="Heads of keys and values.", results=False)
    head_dim: int | None = positive(None, about="The width of a head; null: hidden over heads.", results=False)
    vocab: int = positive(about="Rows of the embedding.", results=False)
    tied: bool = plain(False, about="true: the output head is the embedding.", results=False)


@dataclass(kw_only=True)
class ModelConfig:
    """One model: its path, its sampling, and its fine-tuning where a role needs that."""

    name: str = slug(
        about="Its name in folders, tables and figures. It enters no key, but another name is another folder. If the "
        "path is overridden, the last part of the path.",
        results=False,
        of_path=True,
    )
    path: str = where(
        "a hub id, a folder or bundled:NAME",
        lambda value: bool(value.strip()),
        about="The location: an id on the Hugging Face hub, a folder, or bundled:NAME for a model of the toy setting.",
        results=True,
    )
    revision: str | None = words(
        None,
        about="The commit, tag or branch on the hub; of a bundled model the start of its SHA-256; null: the newest.",
        results=True,
        of_path=True,
    )
    fingerprint: str | None = plain(
        None,
        about="The hash of a local folder, so that a changed folder is another model.",
        results=True,
        of_path=True,
        internal=True,
    )
    template_args: dict[str, Any] = where(
        "a map of names of variables of the chat template, as {enable_thinking: false}",
        lambda value: all(str(name).isidentifier() for name in value),
        default_factory=dict,
        about="Variables of its chat template, in generation, training and evaluation. A trained or merged model is "
        "written with them set.",
        results=True,
    )
    date_string: str | None = where(
        "null, or a day as 26 Jul 2024",
        lambda value: value is None or is_day(value),
        None,
        about="The day that its chat template writes into prompts, where it would write that of the rendering, as "
        "Llama 3's; null: 26 Jul 2024, in training, generation and evaluation alike.",
        results=True,
        added=True,
    )
    chat_template: str | None = where(
        "null, or a file with a Jinja template",
        lambda value: value is None or bool(value.strip()),
        None,
        about="A file with another chat template than that of its tokenizer; its content enters keys.",
        results=False,
        of_path=True,
    )
    template_text: str | None = plain(
        None, about="The content of chat_template.", results=True, of_path=True, internal=True
    )
    sampling: SamplingConfig = part(SamplingConfig, about="How it samples when it generates training data.")
    thinking: ThinkingConfig = part(ThinkingConfig, about="The tags around its thought, before its answer.")
    sft: ModelSftConfig | None = part(default=None, about="How it is fine-tuned; null: it is not.")
    shape: ShapeConfig | None = part(
        default=None,
        about="Its sizes, for a plan; null: those in its config.json, where that is on this machine.",
        results=False,
        of_path=True,
    )
    engine: EngineConfig | None = part(
        default=None,
        about="The engine of this model, with the keys of engine; null: the global one. A key alone, as "
        "teacher.engine.tensor_parallel=2, changes that key of the global one.",
        same_as="engine",
    )
    trainer: TrainerConfig | None = part(
        default=None, about="The trainer of this model, in the same way; null: the global one.", same_as="trainer"
    )


@dataclass(kw_only=True)
class OtherModelConfig(ModelConfig):
    """An optional model: any option of the group ``model``, or a folder or hub id.

    A dataclass and not null, since Hydra cannot set what is below a null from the command line.
    """

    shape: ShapeConfig | None = part(
        default=None, about="As teacher.shape.", results=False, of_path=True, same_as="teacher.shape"
    )
    name: str | None = where(  # type: ignore[assignment]
        f"null, or {SLUG}",
        lambda value: value is None or is_slug(value),
        None,
        about="Its name in folders, tables and figures; null: the last part of its path.",
        results=False,
        of_path=True,
    )
    path: str | None = where(  # type: ignore[assignment]
        "null, a hub id, a folder or bundled:NAME",
        lambda value: value is None or bool(value.strip()),
        None,
        about="The location, as for every model; null: there is none.",
        results=True,
    )


@dataclass(kw_only=True)
class ReleasedConfig:
    """A published checkpoint."""

    path: str = where(
        "a hub id, a folder or bundled:NAME",
        lambda value: bool(value.strip()),
        about="The location of the checkpoint, as for every model.",
        results=True,
    )
    revision: str | None = plain(
        None, about="The commit, tag or branch on the hub; null: the newest.", results=True, of_path=True
    )
    fingerprint: str | None = plain(
        None,
        about="The hash of a local folder, so that a changed folder is another model.",
        results=True,
        of_path=True,
        internal=True,
    )


def models_of(part: Any, key: str = "") -> Iterator[tuple[str, ModelConfig]]:
    """All models of a config, with their dotted keys: roles first, then models of recipes and of the merge."""
    if isinstance(part, ModelConfig):
        yield key, part
        return
    inner: list[tuple[str, Any]] = list(part.items()) if isinstance(part, dict) else []
    if is_dataclass(part):
        inner = [(item.name, getattr(part, item.name)) for item in fields(part)]
        inner.sort(key=lambda pair: not isinstance(pair[1], ModelConfig))
    for name, value in inner:
        yield from models_of(value, f"{key}.{name}" if key else str(name))
