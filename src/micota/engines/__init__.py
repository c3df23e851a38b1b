"""Engines: prompts in, completions out as they finish."""

from __future__ import annotations

from micota.config import EngineConfig
from micota.engines.base import Engine


def open_engine(config: EngineConfig, folder: str, revision: str | None, *, takes_weights: bool = False) -> Engine:
    """Load a model into the configured engine. ``folder`` is a folder or a hub id; with ``takes_weights`` the engine is
    a ``WeightLoader`` (not every engine can be).

    Raises:
        ConfigError: the engine's extra is not installed (the text names the command that installs it), or its server is
            not there.
    """
    if config.name == "vllm":
        from micota.engines.vllm import VLLMEngine

        return VLLMEngine(config, folder, revision, takes_weights)
    if config.name == "server":
        from micota.engines.server import ServerEngine

        return ServerEngine(config, folder, revision)
    if config.name == "ray":
        from micota.engines.ray import RayEngine

        return RayEngine(config, folder, revision)
    from micota.engines.hf import HFEngine

    return HFEngine(config, folder, revision)
