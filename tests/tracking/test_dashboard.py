"""The workspace and the report that code builds: their contents, and their upload by the command."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fork_server import ROOT
from wandb_server import KEY, open_server

from micota.config import TrackerConfig
from micota.errors import UserError
from micota.tracking import dashboard

Command = Callable[..., subprocess.CompletedProcess[str]]


def values_of(spec: Any, name: str) -> list[Any]:
    """Every value of a key, anywhere in a JSON document."""
    if isinstance(spec, list):
        return [value for item in spec for value in values_of(item, name)]
    if not isinstance(spec, dict):
        return []
    here = [spec[name]] if name in spec else []
    return here + [value for item in spec.values() for value in values_of(item, name)]


def test_the_workspace_groups_recipes_and_plots_sweeps() -> None:
    view = dashboard.workspace("someone", "micota", "sweep", {"gsm8k": 4})._to_model()
    spec = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    [section] = values_of(spec, "runSets")
    assert section[0]["grouping"] == [{"section": "config", "name": "recipe.value"}]
    assert "sweep" in json.dumps(section[0]["filters"])
    columns = [column["accessor"] for columns in values_of(spec, "columns") for column in columns]
    assert {"config:student.value", "config:recipe.value", "config:merge.value.density"} <= set(columns)
    assert {"config:merge.value.weight", "summary:eval/num_tokens", "summary:eval/average"} <= set(columns)
    axes = list(zip(values_of(spec, "xAxis"), values_of(spec, "yAxis"), strict=False))
    assert "config:merge.value.density" in values_of(spec, "xAxis") and axes
    assert {"summary:eval/average", "summary:eval/num_tokens"} <= set(values_of(spec, "yAxis"))
    assert ["summary_metrics.eval/gsm8k/accuracy"] in values_of(spec, "metrics")
    plotted = {name for names in values_of(spec, "metrics") for name in names}
    assert {f"summary_metrics.eval/gsm8k/{name}" for name in ("pass@2", "maj@4", "tokens_per_right")} <= plotted
    assert "eval/scores" in json.dumps(spec) and "eval/gsm8k/answers" in json.dumps(spec)


def test_curves_are_of_what_training_reports() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "micota" / "sft").glob("*.py"))
    plotted = [name for panel in dashboard.training_panels() for name in panel.y]
    assert len(plotted) == 4 and all(f'"{name}"' in source for name in plotted)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None if name == "wandb_workspaces" else real(name))
    tracker = TrackerConfig(name="wandb", mode="online")
    with pytest.raises(UserError, match=r"wandb=true needs .* with:  pip install 'micota\[dashboard\]'$"):
        dashboard.save(tracker, "tiny", {"easy": 1})


def test_the_command_hands_both_over(run_command: Command, tmp_path: Path) -> None:
    with open_server() as server:
        finished = run_command(
            "report", "experiment=tiny", "wandb=true", "tracker.mode=online", HOME=str(tmp_path),
            WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    workspace, report = server.variables("UpsertView2") + server.variables("upsertView")
    assert (workspace["displayName"], report["displayName"]) == ("micota: tiny", "micota: tiny")
    assert (workspace["type"], report["type"], report["entityName"]) == ("project-view", "runs", "someone")
    sets = [runset for runsets in values_of(json.loads(report["spec"]), "runSets") for runset in runsets]
    assert [runset["name"] for runset in sets] == ["students", "merged TA", "students of it", "training", "students"]
    assert all("tiny" in json.dumps(runset["filters"]) for runset in sets)
    lines = finished.stdout.splitlines()
    assert f"workspace: {server.url}/someone/micota?nw=abc" in lines and f"report: {server.url}/" in finished.stdout


def test_offline_and_without_a_key_it_is_refused_at_once(run_command: Command, tmp_path: Path) -> None:
    for arguments, error in [
        (["tracker.mode=offline"], "error: wandb=true with tracker.mode=offline: "),
        (["tracker=none"], "error: wandb=true with tracker=none: "),
        (["tracker.mode=online"], "error: tracker.mode=online, but there is no API key for "),
    ]:
        finished = run_command(
            "report", "experiment=tiny", "wandb=true", *arguments, HOME=str(tmp_path), WANDB_API_KEY=""
        )
        assert finished.returncode == 2 and finished.stderr.startswith(error), finished.stderr
        assert finished.stderr.count("\n") == 1
