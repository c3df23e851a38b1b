"""What is bundled: models that load as they are, problems with right answers and no overlap."""

import json
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from micota.tiny.pretrain import build_model, evaluate_level
from micota.tiny.problems import SPLITS, Split, excluded_chains, load_split, make_split
from micota.tiny.recipes import HEAD_DIM, RECIPES
from micota.tiny.task import LEVELS, Chain, parse_problem, write_short
from micota.tiny.tokenizer import EOS, EOS_ID, PAD_ID, build_tokenizer


@pytest.fixture(params=list(RECIPES))
def folder(request: pytest.FixtureRequest) -> Path:
    with as_file(files("micota.tiny") / "models" / request.param) as path:
        return path


def test_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] == HEAD_DIM == 32
    assert (config["vocab_size"], config["max_position_embeddings"]) == (64, 1024)
    assert config["tie_word_embeddings"] is True
    assert (config["eos_token_id"], config["pad_token_id"]) == (EOS_ID, PAD_ID)
    generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    assert (generation.eos_token_id, generation.pad_token_id) == (EOS_ID, PAD_ID)


def test_weights(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    fresh = build_model(RECIPES[folder.name])
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    built = build_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab()
    assert tokenizer.chat_template == built.chat_template
    text = load_split("train")[0]["problem"] + "\n"
    assert tokenizer(text)["input_ids"] == built(text)["input_ids"]


def test_ta_solves_easy_problems_as_loaded() -> None:
    """The folder as a user loads it: a mismatch of tokenizer and model would show as wrong answers."""
    with as_file(files("micota.tiny") / "models" / "ta") as path:
        model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    accuracy, _ = evaluate_level(model, tokenizer, load_split("dev_easy")[:20])
    assert accuracy > 0.9


def test_models_know_the_task(folder: Path) -> None:
    """The right short solution of an easy problem is far likelier than chance, even to the teacher."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    question = parse_problem(load_split("dev_easy")[0]["problem"])
    prompt = tokenizer(question.problem + "\n", return_tensors="pt")["input_ids"]
    ids = tokenizer(f"{question.problem}\n{write_short(question)}{EOS}", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    labels = ids[0, prompt.shape[1] :]
    loss = torch.nn.functional.cross_entropy(logits[0, prompt.shape[1] - 1 : -1], labels)
    assert loss < 2.0  # nats a token; a uniform guess has 4.2


def test_log_covers_every_model() -> None:
    log = (files("micota.tiny") / "models" / "pretrain.log").read_text(encoding="utf-8")
    assert [line[3:] for line in log.splitlines() if line.startswith("== ")] == list(RECIPES)
    assert log.count("dev average: accuracy") == len(RECIPES)


def test_bundled_problems_are_those_that_the_script_writes() -> None:
    seen: set[Chain] = set()
    for split in SPLITS:
        assert load_split(split.name) == make_split(split, seen)


def test_splits_are_disjoint() -> None:
    chains = [parse_problem(row["problem"]).chain for split in SPLITS for row in load_split(split.name)]
    assert len(chains) == len(set(chains)) == 1600 + 3 * 200 + 3 * 300
    assert len(excluded_chains()) == 3 * 200 + 3 * 300
    assert len({split.seed for split in SPLITS}) == len(SPLITS)


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_rows(split: Split) -> None:
    rows = load_split(split.name)
    assert [row["id"] for row in rows] == [f"tiny/{split.name}/{i}" for i in range(split.num_problems)]
    for row in rows:
        start, ops = row["problem"].removesuffix(" mod 10?").split(" has ")[1].split(":")
        value = int(start[0])
        for operator, operand in zip(ops[::2], ops[1::2], strict=True):
            value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator](value, int(operand)) % 10
        assert row["answer"] == str(value)
    level = split.name.removeprefix("dev_").removeprefix("test_")
    low, high = LEVELS.get(level, (2, 8))
    num_steps = [len(parse_problem(row["problem"]).chain.ops) for row in rows]
    assert set(num_steps) == set(range(low, high + 1))
