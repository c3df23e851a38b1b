"""``engine=auto``: vLLM where it is installed and there is a GPU, else transformers."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

from micota.config import ENGINES, EngineConfig
from micota.config.running import AUTO
from micota.machine import gpus


def resolved(config: EngineConfig) -> EngineConfig:
    """The engine that a config stands for on this machine."""
    return as_engine(config, choice(config)[0]) if config.name == AUTO else config


def as_engine(config: EngineConfig, name: str) -> EngineConfig:
    """The settings of ``engine=auto`` for one engine: what the other alone has goes back to its default."""
    foreign = {setting for kind in ENGINES.values() for setting in kind.settings} - {*ENGINES[name].settings}
    defaults = {setting: getattr(EngineConfig(name=name), setting) for setting in foreign}
    return replace(config, name=name, **defaults)


LOCAL = ("hf", "vllm")  # what auto can stand for


def choice(config: EngineConfig) -> tuple[str, str]:
    """The engine that ``auto`` stands for here, and why, in words."""
    if config.device == "cpu":
        return "hf", "engine.device=cpu"
    if not gpus():
        return "hf", "no GPU here"
    if not _has_vllm():
        return "hf", "vLLM is not installed here"
    return "vllm", f"vLLM {metadata.version('vllm')} and a GPU"


def _has_vllm() -> bool:
    """Whether vLLM for GPUs is installed; its build for CPUs is another distribution of the same module."""
    try:
        metadata.distribution("vllm")
    except metadata.PackageNotFoundError:
        return False
    return True
