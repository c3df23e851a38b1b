"""Speeds of earlier runs on this machine, read from the manifests of finished artifacts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.artifacts.manifest import MANIFEST, sum_of
from micota.artifacts.provenance import hardware
from micota.config import CostConfig, ModelConfig, ShapeConfig
from micota.costs.sizes import config_of_files, shape_in
from micota.machine import gpus
from micota.sft.shape import Shape


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One finished stage: its work in the unit of its kind (see ``work_of``), the weights of its model, seconds."""

    stage: str
    weights: int
    work: float
    seconds: float


class Measured:
    """The measurements of this machine below one folder of artifacts."""

    def __init__(self, root: Path, cost: CostConfig, models: list[ModelConfig]) -> None:
        self._cost = cost
        self._shapes = {model.path: model.shape for model in models if model.shape is not None}
        self._manifests = {manifest["key"]: manifest for manifest in _read(root)}
        machine = {**hardware(), **({"gpus": [gpu.name for gpu in gpus()]} if gpus() else {})}
        made_here = [manifest for manifest in self._manifests.values() if manifest["hardware"] == machine]
        self.all = [found for manifest in made_here if (found := self._measurement(manifest)) is not None]

    def seconds(self, stage: str, weights: int, work: float) -> float | None:
        """Seconds that a stage is expected to take, at the speed of those runs whose model is nearest in size; in
        proportion to the weights where it is another. None if there is no such run."""
        same = [found for found in self.all if found.stage == stage]
        if not same or work <= 0:
            return None
        nearest = min((found.weights for found in same), key=lambda other: abs(math.log((other + 1) / (weights + 1))))
        chosen = [found for found in same if found.weights == nearest]
        rate = sum(found.seconds for found in chosen) / sum(found.work for found in chosen)
        return rate * work * (weights / nearest if nearest else 1)

    def num_stages(self) -> int:
        return len(self.all)

    def _measurement(self, manifest: Mapping[str, Any]) -> Measurement | None:
        work = work_of(manifest, self._tokens_of_data(manifest), self._cost.prompt_tokens)
        if not work or manifest["counts"].get("resumed"):  # a resumed stage has the seconds of its last part alone
            return None
        weights = self._weights(manifest) if manifest["stage"] != "select" and manifest["stage"] != "grade" else 0
        if weights is None:
            return None
        return Measurement(stage=manifest["stage"], weights=weights, work=work, seconds=manifest["seconds"])

    def _tokens_of_data(self, manifest: Mapping[str, Any]) -> float:
        """Mean tokens of a completion in the data that a stage reads, or 0."""
        data = self._manifests.get(manifest["inputs"].get("data", {}).get("key"))
        return float(data["metrics"].get("num_tokens", 0)) if data else 0.0

    def _weights(self, manifest: Mapping[str, Any]) -> int | None:
        """The weights of the model that a stage runs, trains or merges."""
        entry = manifest["inputs"].get("tuned") or manifest["inputs"].get("model")
        while entry is not None and "path" not in entry:
            made = self._manifests.get(entry["key"])
            entry = (made["inputs"].get("tuned") or made["inputs"].get("model")) if made else None
        if entry is None:
            return None
        content = config_of_files(entry["path"], entry["revision"])
        shape: ShapeConfig | None = self._shapes.get(entry["path"]) or (shape_in(content) if content else None)
        return None if shape is None else Shape.from_config(shape).weights


def work_of(manifest: Mapping[str, Any], data_tokens: float, prompt_tokens: float) -> float:
    """The work of a finished stage: tokens generated, trained on or read, answers graded, completions filtered, merges
    measured, or 1 for a merge; 0 for a stage that is not known."""
    counts, metrics = manifest["counts"], manifest["metrics"]
    match manifest["stage"]:
        case "generate":
            return float(counts.get("requested", 0) * metrics.get("num_tokens", 0))
        case "train":
            sft = manifest["config"]["sft"]
            passes = counts.get("examples", 0) * sft["epochs"]
            if sft.get("max_steps") is not None:
                passes = sft["max_steps"] * sft["batch_size"]
            return float(passes * (data_tokens + prompt_tokens))
        case "select":
            return float(counts.get("completions", counts.get("examples", 0)))
        case "grade":
            return float(counts.get("scores", 0))
        case "likelihood" | "targets":
            return float(counts.get("examples", 0) * (data_tokens + prompt_tokens))
        case "merge":
            return 1.0
        case "merge_sweep":
            if manifest["config"].get("student"):  # its seconds have those of the student
                return 0.0
            return float(counts.get("points_measured", 0) * counts.get("problems", 0))
        case _:
            return 0.0


def _read(root: Path) -> list[dict[str, Any]]:
    """All manifests that can be read; a damaged one is the matter of the command that uses it."""
    manifests = []
    for path in sorted(root.glob(f"*/*/{MANIFEST}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("sum", "") in ("", sum_of(content)):
                manifests.append({name: content[name] for name in KEYS})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return manifests


KEYS = ("stage", "key", "config", "inputs", "counts", "metrics", "seconds", "hardware")
