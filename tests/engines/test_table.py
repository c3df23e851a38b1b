"""How an engine is added: one entry in the table, and its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from micota.config import ENGINES, EngineConfig, EngineKind, SamplingConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Engine, Output, Request, context_tokens
from micota.errors import ConfigError
from micota.graph.stage import function
from micota.pretrained import load_tokenizer


class Parrot:
    """Answers with its prompt."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None) -> None:
        self.tokenizer: Any = load_tokenizer(folder, revision)
        self.context_tokens = context_tokens(folder, revision)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        for request in requests:
            text = self.tokenizer.decode(request.prompt_ids)
            yield Output(
                id=request.id, text=text, finish_reason="stop", num_tokens=len(request.prompt_ids), seconds=0.0
            )

    def close(self) -> None:
        pass


PARROT = EngineKind(name="parrot", opens=f"{__name__}:Parrot")


@pytest.mark.usefixtures("open_tables")
def test_an_engine_is_one_entry(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"engine.name='parrot'; accepted: one of auto, hf, vllm, server, chat, ray"):
        composed("generate", "engine.name=parrot")
    ENGINES.add(PARROT)
    config = composed("generate", "engine.name=parrot").engine
    assert config.numerics == "parrot"
    with pytest.raises(ConfigError, match=r"tensor_parallel=2 is a setting of engine=vllm and engine=ray, and this is"):
        composed("generate", "engine.name=parrot", "engine.tensor_parallel=2")
    engine: Engine = open_engine(config, model_folder("bundled:ta"), None)
    ids = engine.tokenizer("3 + 4")["input_ids"]
    [output] = engine.generate([Request(id=("a", 0), prompt_ids=ids, seed=0)], SamplingConfig())
    assert output.text == "3 + 4"
    engine.close()


@pytest.mark.usefixtures("open_tables")
@pytest.mark.parametrize(("changes", "words"), [
    ({"opens": "micota.engines.parrot:Parrot"}, "opens 'micota.engines.parrot:Parrot', which does not exist"),
    ({"opens": "micota.engines.hf"}, "opens 'micota.engines.hf', which does not exist; accepted: MODULE:CLASS"),
    ({"settings": ("cage",)}, "has setting 'cage', which engine does not have"),
    ({"needs": "server"}, "needs 'server', which is not one of its settings"),
    ({"name": "hf"}, "'hf' is added twice"),
])  # fmt: skip
def test_a_half_added_engine_is_refused_at_once(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        ENGINES.add(replace(PARROT, **changes))


@pytest.mark.parametrize("name", ENGINES)
def test_what_an_entry_opens_is_there(name: str) -> None:
    assert isinstance(function(ENGINES[name].opens), type)


@pytest.mark.parametrize("name", [name for name, kind in ENGINES.items() if kind.needs])
def test_a_missing_setting_of_an_engine_is_an_error(composed: Callable[..., Any], name: str) -> None:
    needs = ENGINES[name].needs
    with pytest.raises(ConfigError, match=f"engine={name} needs {needs}, which is null"):
        composed("generate", f"engine={name}", f"engine.{needs}=null")
