"""The costs that end a plan, as they are printed."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import thorough_after
from rich.console import Console

from micota import graph
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.costs import machine
from micota.costs.context import Context
from micota.costs.machine import machine_of
from micota.costs.table import costs_of, duration, number, shortened, show_costs
from micota.runtime.plan import tasks_of

Composed = Callable[..., Any]


@pytest.fixture(scope="module")
def planned() -> dict[str, Any]:
    """The experiment of MiCoTA for all of its students, priced on three machines."""
    import hydra

    from micota.cli import app
    from micota.config import SCHEMAS, Call

    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        words = ["experiment=micota", "hardware=h100x8"]
        config = app.prepare(hydra.compose("pipeline", words), SCHEMAS["pipeline"], Call(overrides=words))
        made = graph.experiment(cases(config))
        found = {}
        for name in ("h100x8", "h100x1", "rtx4090x1"):
            words = [f"hardware={name}"]
            priced = app.prepare(hydra.compose("pipeline", words), SCHEMAS["pipeline"], Call(overrides=words))
            tasks = [(task.command, task.nodes) for task in tasks_of(graph.unique(made.targets()))]
            found[name] = costs_of(priced, Store("/nonexistent"), tasks, made.configs)
    return found


def printed(costs: Any, width: int) -> str:
    out = StringIO()
    show_costs(costs, Console(file=out, width=width, highlight=False, soft_wrap=True))
    return out.getvalue()


@pytest.mark.parametrize("name", ["h100x8", "h100x1", "rtx4090x1"])
@pytest.mark.parametrize("width", thorough_after(1, [80, 120]))
def test_it_is_one_table_that_fits_the_terminal(planned: dict[str, Any], name: str, width: int) -> None:
    text = printed(planned[name], width)
    assert all(len(line) <= width for line in text.splitlines()), text
    assert text.count("GPU time") == 1 and text.startswith(f"costs of what is to be made, on {name} (")
    [total] = [line for line in text.splitlines() if line.startswith("all ")]
    assert total.split()[1].endswith("M") and " h " in total and total.rstrip().endswith("B")
    assert "Assumed speeds: " in text and "4000 tokens a long chain" in text


def test_everything_fits_eight_gpus_and_a_small_one_says_what_does_not(planned: dict[str, Any]) -> None:
    assert not planned["h100x8"].problems
    one = planned["h100x1"].problems
    assert any("training needs about 237.8 GiB on each GPU" in text for text in one)
    assert [names for text, names in one.items() if "124.1" in text] == [
        ["qwen7b+strong", "qwen7b+mix_long", "qwen7b+micota"]
    ]
    small = planned["rtx4090x1"].problems
    assert any("61.0 GiB of weights with a cache need more than 21.1 GiB" in text for text in small)
    assert (
        planned["rtx4090x1"].total.device_seconds > 0
        and planned["h100x1"].total.trained < planned["h100x8"].total.trained
    )
    assert "no fit" in printed(planned["h100x1"], 80)


def test_the_sum_is_that_of_the_rows_and_memory_is_the_largest(planned: dict[str, Any]) -> None:
    costs = planned["h100x8"]
    assert costs.total.flops == pytest.approx(sum(row.flops for row in costs.rows))
    assert costs.total.memory == max(row.memory for row in costs.rows)
    assert costs.total.peak_disk - costs.total.disk == 6 * 4 * 14_770_033_664
    ta = next(row for row in costs.rows if row.label == "train qwen14b+strong")
    assert ta.trained == pytest.approx(12_000 * 0.85 * 2 * 4150) and ta.devices == 4
    strong = next(row for row in costs.rows if row.label == "generate strong")
    assert strong.generated == 48e6 and strong.devices == 2


def test_without_a_gpu_a_plan_names_what_to_choose(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ())
    config = composed("train", "role=ta", "hardware=auto")
    node = graph.trained(config, "ta")
    costs = costs_of(config, Store("/nonexistent"), [("train", [node])], {})
    assert [*costs.problems] == [
        "trainer=gpu needs a GPU, and this machine has none: name the machine that will run it, as hardware=h100x8"
    ]


def test_a_merge_on_a_gpu_needs_one(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: ())
    for words, on in ((["hardware=auto"], 1), (["hardware=h100x1"], 0)):
        config = composed("merge", "experiment=tiny", "merge.device=cuda", *words)
        costs = costs_of(config, Store("/nonexistent"), [("merge", [graph.merged(config)])], {})
        assert sum("merge.device=cuda needs a GPU" in problem for problem in costs.problems) == on


def test_a_model_of_unknown_size_says_so(composed: Composed) -> None:
    config = composed("evaluate", "model.path=some/model", "hardware=h100x1", "bench=[gsm8k]")
    costs = costs_of(config, Store("/nonexistent"), [("evaluate", graph.unique(graph.evaluation(config)))], {})
    assert [*costs.problems] == ["its size is not known; set shape in its YAML, or download it first"]
    assert costs.rows[0].generated == 1319 * 600


def test_lengths_of_an_earlier_run_replace_assumptions(composed: Composed, tmp_path: Path) -> None:
    config = composed("generate", "data=strong", "hardware=h100x1", "seed=1")
    node = graph.data(config, config.data).inputs["completions"]
    earlier = graph.data(composed("generate", "data=strong", "teacher.sampling.temperature=0.3"), config.data)
    store = Store(tmp_path)
    with store.build(earlier.inputs["completions"], 0) as build:
        assert build is not None
        build.counts |= {"requested": 12_000, "resumed": 0}
        build.metrics |= {"num_tokens": 2500.0}
    context = Context(machine_of(config), store, config, {})
    assert context.completions(node).tokens == 2500


def test_numbers_are_short() -> None:
    shown = [number(value) for value in (0, 7, 999.7, 48e6, 8.84e18, 123_456)]
    assert shown == ["-", "7", "1k", "48M", "8.84E", "123k"]
    assert [duration(s) for s in (0, 0.2, 31, 700, 19_440, 5e6)] == ["-", "<1 s", "31 s", "12 min", "5.4 h", "1389 h"]
    assert shortened("train qwen14b+strong.dare_ties", 20) == "train qwen14…re_ties"


def test_released_checkpoints_answer_as_long_as_their_recipe_says(composed: Composed) -> None:
    tokens = {}
    for recipe in ("released_long", "released_mix_long", "released_short"):
        config = composed("evaluate", "student=qwen3b", f"data={recipe}", "hardware=h100x1", "bench=[gsm8k]")
        costs = costs_of(config, Store("/nonexistent"), [("evaluate", graph.unique(graph.evaluation(config)))], {})
        tokens[recipe] = costs.rows[0].generated / 1319
    assert tokens == {"released_long": 4000, "released_mix_long": 2000, "released_short": 600}
