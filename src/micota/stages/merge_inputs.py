"""The check of models that are to be merged, by their config.json alone."""

from __future__ import annotations

from pathlib import Path

from micota.config import Config
from micota.data.sources import model_folder
from micota.graph.node import AnyNode
from micota.merging.models import ADAPTER, check_settings
from micota.pretrained import load_config
from micota.runtime.execute import naming_keys

NOT_MERGED = ("student", "calibration")


def check_models(config: Config, node: AnyNode) -> None:
    """Refuse models that exist and do not fit each other, before any weight is read. Of a model on the hub, config.json
    alone is fetched; a model that is still to be trained, and a LoRA adapter, fit by how they are made.

    Raises:
        ConfigError: the text names both models and the first setting that differs.
        SourceError: a model cannot be read.
    """
    sources = [child.spec for label, child in node.inputs.items() if child.is_source and label not in NOT_MERGED]
    models = [spec for spec in sources if not (Path(model_folder(spec.path)) / ADAPTER).exists()]
    if len(models) < 2:
        return
    with naming_keys(config):
        known = [load_config(model_folder(spec.path), _revision(spec.path, spec.revision)) for spec in models]
    for spec, settings in zip(models[1:], known[1:], strict=True):
        check_settings(known[0], settings, f"{models[0].path} and {spec.path} cannot be merged")


def _revision(path: str, revision: str | None) -> str | None:
    return None if path.startswith("bundled:") else revision
