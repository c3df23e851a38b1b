"""Every old name answers with the new one, on the command line and in a YAML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest

from micota.cli import app
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call
from micota.config.reference import keys
from micota.config.renamed import KEYS, VALUES

OLD = [
    # command, override, the line
    ("merge", "probe=true", "probe is now called sweep; use sweep=true"),
    ("merge", "probe.weights=[0.3]", "probe.weights is now called merge_sweep.weights; use merge_sweep.weights=[0.3]"),
    ("merge", "sweep.weights=[0.3]", "sweep.weights is now called merge_sweep.weights; use merge_sweep.weights="),
    ("train", "sweep.num_seeds=3", "sweep.num_seeds is now called merge_sweep.num_seeds; use merge_sweep.num_seeds=3"),
    ("train", "+held_out.a.path=b", "held_out is now called decontaminate_against"),
    ("train", "bench@held_out=[gsm8k]", "bench@held_out is now called bench@decontaminate_against"),
    ("train", "data.author=ta", "data.author is now called data.generator; use data.generator=ta"),
    ("train", "ta_data.author=ta", "ta_data.author is now called ta_data.generator; use ta_data.generator=ta"),
    ("pipeline", "compare.arms=[strong]", "compare.arms is now called compare.recipes; use compare.recipes=[strong]"),
    ("train", "trainer.pack_tokens=9", "trainer.pack_tokens is now called trainer.pack_length; use trainer.pack_len"),
    ("train", "trainer.row_batch=9", "trainer.row_batch is now called trainer.micro_batch_rows"),
    ("train", "evaluation.answer_s=9", "evaluation.answer_s is now called evaluation.timeout_s"),
    ("train", "select.best_of=all", "select.best_of is now called select.keep_sample; use select.keep_sample=all"),
    ("train", "select.decontaminate=restated", "restated is now called near_duplicate; use select.decontam"),
    ("pipeline", "compare.measures=[probe,bpc]", "now called merge_sweep; use compare.measures=[merge_sweep,bpc]"),
]  # fmt: skip
IN_YAML = [
    ("held_out: {a: {path: b}}", "held_out is now called decontaminate_against"),
    ("compare: {arms: [strong]}", "compare.arms is now called compare.recipes"),
    ("trainer: {row_batch: 2}", "trainer.row_batch is now called trainer.micro_batch_rows"),
    ("sweep: {weights: [0.3]}", "sweep, as a map of settings, is now called merge_sweep"),
    ("select: {decontaminate: restated}", "restated is now called near_duplicate"),
    ("defaults: [{override /bench@held_out: [gsm8k]}]", "bench@held_out is now called bench@decontaminate_against"),
]


def line(compose: Callable[[], Any], command: str, overrides: list[str]) -> str:
    """What a user is shown; as one line of a mistake."""
    with pytest.raises(Exception) as caught:
        compose()
    assert is_users(caught.value)
    text = one_line(caught.value, SCHEMAS[command], Call(overrides=overrides))
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("command", "override", "expected"), OLD, ids=[old[1] for old in OLD])
def test_on_the_command_line(composed: Callable[..., Any], command: str, override: str, expected: str) -> None:
    assert expected in line(lambda: composed(command, override), command, [override])


@pytest.mark.parametrize("command", ["train", "merge"])
@pytest.mark.parametrize(("content", "expected"), IN_YAML)
def test_in_a_file_of_the_user(tmp_path: Path, command: str, content: str, expected: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    overrides = ["experiment=mine", f"hydra.searchpath=[file://{tmp_path}]"]
    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        text = line(
            lambda: app.prepare(hydra.compose(command, overrides), SCHEMAS[command], Call(overrides=overrides)),
            command,
            overrides,
        )
    assert expected in text


def test_new_names_are_keys() -> None:
    known = {key.key for command in SCHEMAS for key in keys(SCHEMAS[command])}
    assert set(KEYS.values()) <= known
    assert {key for key, _ in VALUES} <= known and not (set(KEYS) - {"sweep"}) & known
