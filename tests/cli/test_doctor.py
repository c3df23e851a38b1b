"""The command doctor: what a run would learn and need, without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.cli.doctor import doctor, placed
from micota.data.sources import model_folder

Shown = Callable[..., tuple[dict[str, Any], dict[str, Any]]]
CHATML = "{% for m in messages %}{{ m.content }}<turn_end>\n{% endfor %}"


def turns(number: int, system: bool = False) -> dict[str, Any]:
    question = {"role": "user", "content": f"Ana has {number % 4} pens:+3 mod 10?"}
    answer = {"role": "assistant", "content": f"{number}+3={(number + 3) % 10}." * (30 if number == 9 else 1)}
    return {"messages": [{"role": "system", "content": "Mia:"}] * system + [question, answer], "id": f"p{number % 4}"}


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """The toy student with a template that ends turns in another token than eos, and a short context."""
    folder = tmp_path / "student"
    shutil.copytree(model_folder("bundled:student"), folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    content = json.loads((folder / "tokenizer.json").read_text())
    token = next(token for token in content["added_tokens"] if token["content"] == "<pad>")
    content["added_tokens"].append(token | {"id": 57, "content": "<turn_end>"})
    vocabulary = content["model"]["vocab"]
    [last] = [word for word, index in vocabulary.items() if index == 57]
    vocabulary["<turn_end>"] = vocabulary.pop(last)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 60}))
    return folder


@pytest.fixture
def shown(composed: Callable[..., Any], tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    def run(*words: str, system: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        rows = [json.dumps(turns(number, system)) for number in range(10)]
        (tmp_path / "rows.jsonl").write_text("\n".join(rows))
        config = composed(
            "doctor", "experiment=tiny", f"data.path={tmp_path / 'rows.jsonl'}", f"artifacts={tmp_path / 'artifacts'}",
            "select.num_examples=null", "select.filters=[]", f"student.path={student}", "json=true", *words,
        )  # fmt: skip
        capsys.readouterr()
        doctor(config)
        report = json.loads(capsys.readouterr().out)
        return report, {finding["name"]: finding for finding in report["findings"]}

    return run


def test_what_is_learnt_and_needed(shown: Shown) -> None:
    report, findings = shown("student.sft.validation_fraction=0.25")
    assert report["ready"] and {finding["status"] for finding in findings.values()} == {"ok"}
    assert report["sample"] == "Ana has 0 pens:+3 mod 10?<turn_end>\n⟦0+3=3.<turn_end>⟧"
    end = findings["end of turn"]
    assert end["values"] == {"text": "<turn_end>", "id": 57, "from_template": True, "eos_token": "<eos>"}
    assert "the tokenizer's eos is '<eos>', and the export ends at both" in end["text"]
    assert findings["export"]["values"] == {"eos_token_id": [1, 57]}
    examples = findings["examples"]["values"]
    assert (examples["examples"], examples["used"], examples["problems"]) == (10, 9, 4)
    assert (examples["dropped_too_long"], examples["dropped_beyond_context"], examples["cut"]) == (0, 1, 0)
    assert findings["model"]["values"] == {"type": "llama", "context": 60, "longrope_border": None}
    assert findings["loss"]["values"]["loss"] == pytest.approx(findings["loss"]["values"]["expected"], abs=1e-4)
    assert findings["memory"]["values"]["total_bytes"] < findings["memory"]["values"]["available_bytes"]
    assert findings["kernels"]["values"] == {"loss": "chunked", "layers": "of torch"}
    assert findings["devices"]["values"] == {"devices": 1, "accelerator": "cpu"}
    assert findings["disk"]["values"]["needed_bytes"] < findings["disk"]["values"]["free_bytes"]
    assert findings["steps"]["values"]["validation_examples"] in (2, 3)


def test_every_finding_is_there_where_one_is_refused(
    shown: Shown, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(SystemExit) as stopped:
        shown(system=True)
    assert stopped.value.code == 2
    report = json.loads(capsys.readouterr().out)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert not report["ready"] and report["sample"] is None
    assert findings["data"]["status"] == findings["template"]["status"] == "refused"
    assert "leaves out the turn of 'system'" in findings["template"]["text"]
    assert all(findings[name]["status"] == "ok" for name in ("end of turn", "texts", "loss", "memory", "disk"))


def test_without_data_or_model_the_rest_is_shown(
    composed: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed("doctor", "experiment=tiny", "data=strong", f"artifacts={tmp_path}")
    capsys.readouterr()
    doctor(config)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("data         unknown  model tiny_student+strong needs data strong") for line in lines)
    assert any(line.startswith("end of turn  ok       '<eos>' (id 1), of the chat template") for line in lines)
    assert lines[-1].endswith("2<eos>⟧") and not any(tmp_path.iterdir())


def test_it_refuses_what_training_refuses(shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """By the same list of checks, each a finding of its own."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit):
        shown(
            "trainer.compile=true", "student.sft.optimizer=paged_adamw", "student.sft.lora.r=4",
            "student.sft.lora.targets=[q_prj]", "trainer.continue_from=/nowhere",
        )  # fmt: skip
    findings = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    refused = {name: finding["text"] for name, finding in findings.items() if finding["status"] == "refused"}
    assert [*refused] == ["start", "settings", "kernels", "ids"]
    assert refused["start"].startswith("trainer.continue_from=/nowhere: there is no such folder; accepted:")
    assert "sft.optimizer=paged_adamw" in refused["settings"] and "'q_prj' is no linear layer" in refused["ids"]
    assert "trainer.compile=true needs a C++ compiler" in refused["kernels"]


def test_an_open_number_of_gpus_is_that_of_training(composed: Callable[..., Any], tmp_path: Path) -> None:
    words = ["doctor", "student=qwen7b", "data=micota", "trainer=gpu", f"artifacts={tmp_path}"]
    config = composed(*words, "hardware=h100x8")
    assert config.trainer.devices is None
    assert placed(config, graph.trained(config, "student")).trainer.devices == 2


def test_a_teacher_is_counted(composed: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for words in ([], ["objective=logit_kd"]):
        config = composed("doctor", "experiment=tiny", "data=strong", f"artifacts={tmp_path}", "json=true", *words)
        capsys.readouterr()
        doctor(config)
        findings = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
        found.append(findings)
    assert "teacher" not in found[0] and found[1]["teacher"]["status"] == "ok"
    assert found[1]["memory"]["values"]["parts"]["teacher"] > 0
