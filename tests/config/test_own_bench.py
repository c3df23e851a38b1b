from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota.config.own_bench import with_own_benchmark
from micota.errors import ConfigError


@pytest.mark.parametrize(("given", "expected"), [
    (["student=tiny"], ["student=tiny"]),
    (["bench.gsm8k.limit=3"], ["bench.gsm8k.limit=3"]),
    (["bench.path=a/my-set.jsonl", "seed=1"], ["seed=1", "bench=[own]", "bench.my-set.path=a/my-set.jsonl"]),
    (["bench=[gsm8k]", "bench.path=x.jsonl"], ["bench=[gsm8k]", "bench.x.path=x.jsonl"]),
    (["bench.path=ORG/Set", "bench.name=own", "bench.types.Even=number"],
     ["bench=[own]", "bench.own.path=ORG/Set", "bench.own.types.Even=number"]),
])  # fmt: skip
def test_fields_stand_under_a_name(given: list[str], expected: list[str]) -> None:
    assert with_own_benchmark(given) == expected


def test_a_field_without_a_path() -> None:
    with pytest.raises(ConfigError, match=r"bench.limit=3: which benchmark\? accepted: bench.NAME.limit=..., or also"):
        with_own_benchmark(["bench.limit=3"])


def test_a_file_of_the_user_is_evaluated(composed: Callable[..., Any], tmp_path: Path) -> None:
    from micota.config.roles import for_hydra

    file = tmp_path / "a b" / "mine.jsonl"
    file.parent.mkdir()
    file.write_text('{"id": 1, "q": "1+1", "gold": "2"}\n')
    overrides = ["experiment=tiny", f"bench.path={file}", "bench.problem_column=q", "bench.answer_column=gold"]
    config = composed("evaluate", *for_hydra(overrides))
    assert list(config.bench) == ["mine"]
    assert (config.bench["mine"].problem_column, config.bench["mine"].fingerprint is None) == ("q", False)
