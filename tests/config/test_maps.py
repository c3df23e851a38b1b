from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hydra
import pytest

from micota.cli import app
from micota.config import SCHEMAS, Call
from micota.config.maps import as_given, with_entries


@pytest.mark.parametrize(("typed", "for_hydra"), [
    ("data.columns={problem: q}", "++data.columns={problem: q}"),
    ("ta_data.parts.long.only={domain: math}", "++ta_data.parts.long.only={domain: math}"),
    ("student.template_args.enable_thinking=false", "++student.template_args.enable_thinking=false"),
    ("engine.chat.extra_body.seed=null", "++engine.chat.extra_body.seed=null"),
    ("bench.mine.path=exam.jsonl", "+_path_of_bench_mine=given"),
    ("data.parts.mine.path=hub:a/b", "+_path_of_data_parts_mine=given"),
])  # fmt: skip
def test_a_new_entry_of_a_map_is_what_hydra_accepts_and_printed_as_typed(typed: str, for_hydra: str) -> None:
    assert with_entries([typed]) == [for_hydra] and as_given(for_hydra) == typed


@pytest.mark.parametrize("override", [
    "data=micota", "bench=[]", "data.path=x", "bench.mine.path=null", "student.path=x", "bench.mine.limit=3",
    "+data.columns={a: b}", "trainer@ta.trainer=fsdp",
])  # fmt: skip
def test_other_overrides_stay(override: str) -> None:
    assert with_entries([override]) == [override] and as_given(override) == override


@pytest.mark.usefixtures("composed")
def test_a_benchmark_of_the_user_beside_or_instead_of_others(composed: Callable[..., Any]) -> None:
    def benches(*overrides: str) -> dict[str, tuple[str, str]]:
        call = Call(overrides=["experiment=tiny", *overrides])
        config = app.prepare(hydra.compose("evaluate", with_entries(call.overrides)), SCHEMAS["evaluate"], call)
        return {name: (bench.path, bench.problem_column) for name, bench in config.bench.items()}

    mine = ["bench.mine.path='bundled:test_easy.jsonl'", "bench.mine.problem_column=q"]
    assert benches("bench=[]", *mine) == {"mine": ("bundled:test_easy.jsonl", "q")}
    both = benches("bench=[gsm8k]", "bench.gsm8k.path=a/b", *mine)
    assert both == {"gsm8k": ("a/b", "problem"), "mine": ("bundled:test_easy.jsonl", "q")}
