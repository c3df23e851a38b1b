"""What the tests of engines ask, and how they compare what comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from micota.config import SourceConfig
from micota.data.sources import load_problems
from micota.engines.base import Output, Request


def requests_of(engine: Any, limit: int) -> list[Request]:
    """The first bundled problems of the medium kind, each with a seed of its own."""
    problems = load_problems(SourceConfig(path="bundled:dev_medium.jsonl", id_column="id", limit=limit))
    encode = engine.tokenizer
    return [
        Request(id=(p.id, 0), prompt_ids=encode(p.problem + "\n", add_special_tokens=False)["input_ids"], seed=index)
        for index, p in enumerate(problems)
    ]


def by_id(outputs: Any) -> dict[tuple[str, int], Output]:
    """Outputs without the time that they took."""
    return {output.id: replace(output, seconds=0.0) for output in outputs}
