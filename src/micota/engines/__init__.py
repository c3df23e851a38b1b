"""Engines: prompts in, completions out as they finish. A new engine is one entry of ``ENGINES`` and one module."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from micota.config import ENGINES, EngineConfig, EngineKind
from micota.graph.stage import function

if TYPE_CHECKING:  # checks of a config must not import transformers
    from micota.engines.base import Engine


def _check(kind: EngineKind) -> None:
    module, _, name = kind.opens.partition(":")
    try:
        exists = find_spec(module) is not None
    except ImportError:
        exists = False
    if not exists or not name:
        raise TypeError(f"engine {kind.name!r} opens {kind.opens!r}, which does not exist; accepted: MODULE:CLASS")


ENGINES.for_each(_check)

_VLLM = ("tensor_parallel", "memory_fraction", "prefix_caching", "batch_invariant", "max_model_len")
ENGINES.add(EngineKind(name="hf", opens="micota.engines.hf:HFEngine", takes_weights=True))
ENGINES.add(
    EngineKind(name="vllm", opens="micota.engines.vllm:VLLMEngine", settings=_VLLM, takes_weights=True, batch_size=256)
)
ENGINES.add(
    EngineKind(
        name="server",
        opens="micota.engines.server:ServerEngine",
        settings=("server", "max_model_len"),
        needs="server",
    )
)
ENGINES.add(
    EngineKind(name="chat", opens="micota.engines.chat:ChatEngine", settings=("chat",), needs="chat", batch_size=16)
)
ENGINES.add(
    EngineKind(
        name="ray",
        opens="micota.engines.ray:RayEngine",
        settings=(*_VLLM, "ray"),
        needs="ray",
        numerics="vllm",
        batch_size=256,
    )
)


def open_engine(config: EngineConfig, folder: str, revision: str | None, *, takes_weights: bool = False) -> Engine:
    """Load a model into the configured engine. ``folder`` is a folder or a hub id; with ``takes_weights`` the engine is
    a ``WeightLoader`` (not every engine can be).

    Raises:
        ConfigError: the engine's extra is not installed (the text names the command that installs it), or its server
            does not answer.
    """
    kind = ENGINES[config.name]
    options = {"takes_weights": takes_weights} if kind.takes_weights else {}
    engine: Engine = function(kind.opens)(config, folder, revision, **options)
    return engine
