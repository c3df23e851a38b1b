"""The toy Qwen2 students: what is bundled, and that their pre-training learns, branches and repeats itself."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.report.sizes import size_of
from micota.tiny.byte_tokenizer import EOS, build_tokenizer
from micota.tiny.family import (
    BRANCH,
    FAMILY,
    Member,
    backward,
    build_model,
    padded,
    parameters_of,
    sample_rows,
    save,
    students,
)
from micota.tiny.pretrain import FOLDER, LOG
from micota.tiny.problems import load_split
from micota.tiny.task import parse_problem, write_short

BUNDLED = [name for name in FAMILY if (FOLDER / name).is_dir()]
SMALL = Member(32, 1, 1, 32, {"early": 1, "middle": 2, "late": 3})


@pytest.mark.parametrize("name", FAMILY)
def test_names_say_the_size(name: str) -> None:
    total, embedding = parameters_of(FAMILY[name])
    built = build_model(FAMILY[name], build_tokenizer())
    assert total == sum(parameter.numel() for parameter in built.parameters())
    assert embedding == built.get_input_embeddings().weight.numel()
    assert size_of(f"bundled:{name}") == pytest.approx(total / 1e9, rel=0.02)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_student_loads_and_knows_the_task(name: str) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(FOLDER / name, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name, local_files_only=True)
    assert type(model).__name__ == "Qwen2ForCausalLM" and type(tokenizer).__name__ == "Qwen2Tokenizer"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() == parameters_of(FAMILY[name])[0]
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    question = parse_problem(load_split("dev_easy")[0]["problem"])
    row = tokenizer(question.problem + "\n")["input_ids"], tokenizer(write_short(question) + EOS)["input_ids"]
    ids, is_response = padded([row], tokenizer.pad_token_id)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1][is_response[:, 1:]]
    loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][is_response[:, 1:]])
    assert loss < 2.5  # nats a token; a uniform guess has 5.9
    assert "dev average: accuracy" in (FOLDER / name / LOG).read_text(encoding="utf-8")


def test_students_branch_off_one_trunk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(FAMILY, "small", SMALL)
    monkeypatch.setattr("micota.tiny.family.BRANCH", BRANCH.__class__(BRANCH.corpus, 2, 0.015, 4e-3))
    made = {length: model.state_dict() for length, model, _ in students("small", [1, 3])}
    again = {length: model for length, model, _ in students("small", [3])}
    assert list(made) == [1, 3]
    for name, tensor in again[3].state_dict().items():
        assert torch.equal(made[3][name], tensor), "a branch does not change its trunk"
    assert any(not torch.equal(made[1][name], tensor) for name, tensor in made[3].items())
    save(again[3], tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_rows_of_a_batch_are_padded_on_the_right() -> None:
    ids, is_response = padded([([5], [6, 7]), ([5, 5], [6, 7, 8])], pad_id=0)
    assert ids.tolist() == [[5, 6, 7, 0, 0], [5, 5, 6, 7, 8]]
    assert is_response.long().tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 1]]


def test_groups_of_rows_have_the_gradient_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_model(SMALL, tokenizer)
    rows = sample_rows(tokenizer, BRANCH.corpus, random.Random(0), set())
    loss = backward(model, rows, tokenizer.pad_token_id)
    grouped = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    ids, is_response = padded(rows, tokenizer.pad_token_id)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    whole = torch.nn.functional.cross_entropy(logits[is_response[:, 1:]], ids[:, 1:][is_response[:, 1:]])
    torch.autograd.backward(whole)
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    for one, parameter in zip(grouped, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-6)
