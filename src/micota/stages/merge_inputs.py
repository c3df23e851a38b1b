"""The check of models that are to be merged, by their config.json alone."""

from __future__ import annotations

from pathlib import Path

from micota.config import Config
from micota.data.sources import model_folder
from micota.graph.node import AnyNode
from micota.merging.adapter_settings import read_settings
from micota.merging.models import check_settings
from micota.pretrained import ADAPTER, load_config
from micota.runtime.execute import naming_keys

NOT_MERGED = ("student", "calibration")


def check_models(config: Config, node: AnyNode) -> None:
    """Refuse models that exist and do not fit each other, before any weight is read. Of a model on the hub, config.json
    alone is fetched; a model that is still to be trained fits by how it is made. A LoRA adapter counts as its model.

    Raises:
        ConfigError: the text names both models and the first setting that differs.
        SourceError: a model cannot be read.
    """
    sources = [child.spec for label, child in node.inputs.items() if child.is_source and label not in NOT_MERGED]
    with naming_keys(config):
        models = [(spec.path, *whole_model(spec.path, spec.revision)) for spec in sources]
        known = [load_config(path, revision) for _, path, revision in models] if len(models) > 1 else []
    for (named, *_), settings in zip(models[1:], known[1:], strict=False):
        check_settings(known[0], settings, f"{models[0][0]} and {named} cannot be merged")


def whole_model(path: str, revision: str | None) -> tuple[str, str | None]:
    """The location of a model; of a LoRA adapter in a folder, that of the model that it names."""
    folder = model_folder(path)
    if (Path(folder) / ADAPTER).exists():
        return read_settings(Path(folder)).model
    return folder, _revision(path, revision)


def _revision(path: str, revision: str | None) -> str | None:
    return None if path.startswith("bundled:") else revision
