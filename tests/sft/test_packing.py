from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.records import Example
from micota.sft import token_table
from micota.sft.packing import IGNORED, Tokens, borders, collate, fits, lay_out, pack, tokenise
from micota.sft.token_table import TokenTable, tokenise_once


def sequences(count: int = 9) -> list[Tokens]:
    generator = random.Random(0)
    return [
        Tokens(ids=[generator.randrange(2, 64) for _ in range(generator.randrange(6, 40))], num_prompt=3)
        for _ in range(count)
    ]


def test_the_target_ends_in_eos_and_the_prompt_is_that_of_generation() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    example = Example(
        problem_id="1",
        messages=[{"role": "user", "content": "Ana has 9 pens:+3 mod 10?"}],
        completion="9+3=2.\n\\boxed{2}",
        num_tokens=0,
        source="short",
    )
    tokens = tokenise(tokenizer, example)
    assert tokenizer.decode(tokens.ids[: tokens.num_prompt]) == "Ana has 9 pens:+3 mod 10?\n"
    assert tokenizer.decode(tokens.ids[tokens.num_prompt :]) == "9+3=2.\n\\boxed{2}<eos>"
    chat = [*example.messages, {"role": "assistant", "content": example.completion}]
    assert tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False) == tokens.ids


def test_a_thought_that_the_template_opens_is_neither_learnt_twice_nor_left_open() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = "{{ messages[0].content + '\\n<think>\\n' }}"
    fields: Any = {
        "problem_id": "1",
        "messages": [{"role": "user", "content": "9"}],
        "num_tokens": 0,
        "source": "strong",
    }
    thought = "<think>\n9+3=2.\n</think>\n\\boxed{2}"
    for completion in (thought, f"\n{thought}", f" {thought}", thought.removeprefix("<think>\n")):
        tokens = tokenise(tokenizer, Example(completion=completion, **fields))
        assert tokenizer.decode(tokens.ids[: tokens.num_prompt]).rstrip().endswith("<think>")
        assert tokenizer.decode(tokens.ids[tokens.num_prompt :]) == "9+3=2.\n</think>\n\\boxed{2}<eos>"
    with pytest.raises(ConfigError, match=r"opens a thought \(<think>\) .* problem '1' does not end one"):
        tokenise(tokenizer, Example(completion="\\boxed{2}", **fields))


@pytest.mark.parametrize("completion", ["9+3=2.", "9+3=2.<end_of_turn>", "9+3=2.<end_of_turn>\n", "9+3=2.<eos>"])
@pytest.mark.parametrize("learn_all", [False, True])
def test_turns_end_in_the_token_of_the_template_once(completion: str, learn_all: bool) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.add_tokens(["<end_of_turn>"], special_tokens=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<end_of_turn>\n{% endfor %}"
    turns = [{"role": role, "content": completion if role == "assistant" else "9"} for role in ("user", "assistant")]
    example = Example(
        problem_id="1", messages=[*turns, turns[0]], completion=completion, num_tokens=0, source="x",
        learn_all=learn_all,
    )  # fmt: skip
    tokens = tokenise(tokenizer, example)
    assert tokenizer.decode(tokens.ids) == "9<end_of_turn>\n9+3=2.<end_of_turn>\n9<end_of_turn>\n9+3=2.<end_of_turn>"
    labels = collate([tokens], len(tokens.ids))["labels"][0].tolist()
    learnt = tokenizer.decode([label for label in labels if label != IGNORED])
    assert learnt == "9+3=2.<end_of_turn>" * (2 if learn_all else 1)


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opened }}{% endif %}"
)


def with_chatml(opened: str = "") -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "user", "assistant", "<think>", "</think>"])
    tokenizer.chat_template = CHATML.replace("{{ opened }}", opened)
    return tokenizer


def of_completion(text: str) -> Example:
    turns = [{"role": "user", "content": "9"}]
    return Example(problem_id="p3", messages=turns, completion=text, num_tokens=0, source="x")


@pytest.mark.parametrize("opened", ["", "<think>\n"])
def test_the_header_of_a_turn_that_was_rendered_before_is_not_doubled(opened: str) -> None:
    tokenizer, thought = with_chatml(opened), "<think>\n9+3=2.\n</think>\n" if opened else ""
    expected = tokenise(tokenizer, of_completion(f"{thought}9+3=2."))
    assert tokenizer.decode(expected.ids).count("<|im_start|>") == 2
    for text in ("<|im_start|>assistant\n{}9+3=2.<|im_end|>\n", "\n<|im_start|>assistant\n{}9+3=2."):
        assert tokenise(tokenizer, of_completion(text.format(thought))) == expected


@pytest.mark.parametrize("text", [
    "9+3=2.<|im_end|>\n<|im_start|>user\n9", "9<eos>+3=2.", "<|im_end|>9+3=2.", "<|im_start|>assistant\n9<|im_end|>9",
])  # fmt: skip
def test_an_end_within_a_completion_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"completion of problem 'p3' goes on after the end of its turn \(<"):
        tokenise(with_chatml(), of_completion(text))
    accepted = r"accepted: one answer each, without tokens of the chat template; up to 1% of the rows are dropped"
    with pytest.raises(ConfigError, match=rf"2 of 100 completions go on .*, as that of problem 'p3' \(<.*{accepted}"):
        tokenise_once(with_chatml(), [of_completion("9")] * 98 + [of_completion(text)] * 2, "rows", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_few_ends_within_completions_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, rows = with_chatml(), [*map(of_completion, ["9"] * 50 + ["9<|im_end|>9"] + ["9+3=2."] * 49)]
    table = tokenise_once(tokenizer, rows, "rows", tmp_path)
    assert fits(table.lengths, 99) == [index for index in range(100) if index != 50]
    assert table[51] == tokenise(tokenizer, rows[51])
    monkeypatch.setattr(token_table, "tokenise", None)
    assert list(tokenise_once(tokenizer, rows, "rows", tmp_path)) == list(table), "from the cache"
    cut = table.cut(3)
    assert cut.lengths[50] == 0 and len(cut) == 100


def conversation(*roles: str, learn_all: bool = True) -> Example:
    texts = {"user": "Ana has 9 pens:+3 mod 10?", "assistant": "9+3=2.\n\\boxed{2}"}
    turns = [{"role": role, "content": texts.get(role, "Mia has 3 pens:+4 mod 10?")} for role in roles]
    answer = "3+4=7.\n\\boxed{7}"
    return Example(problem_id="1", messages=turns, completion=answer, num_tokens=0, source="x", learn_all=learn_all)


def test_all_turns_of_the_assistant_are_learnt_or_the_last() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    roles = ("user", "assistant", "user", "assistant", "user")
    tokens = tokenise(tokenizer, conversation(*roles))
    labels = collate([tokens], len(tokens.ids))["labels"][0]
    learnt = tokenizer.decode([label for label in labels.tolist() if label != IGNORED])
    assert learnt == "9+3=2.\n\\boxed{2}<eos>" * 2 + "3+4=7.\n\\boxed{7}<eos>"
    assert tokens.num_supervised == (labels != IGNORED).sum() < len(tokens.ids) - tokens.num_prompt
    last = tokenise(tokenizer, conversation(*roles, learn_all=False))
    assert last.ids == tokens.ids and last.num_supervised == 11 and last.gaps == ()
    table = TokenTable.of([last, tokens, last, tokens])
    assert [table[index] for index in range(4)] == [last, tokens, last, tokens]


def test_an_earlier_answer_that_the_template_changes_cannot_be_learnt() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] + m.content + eos_token }}{% endfor %}{{ 'x' }}"
    with pytest.raises(ConfigError, match=r"changes an earlier answer of problem '1' .*accepted: data.turns=last"):
        tokenise(tokenizer, conversation("user", "assistant", "user"))


@pytest.mark.parametrize("lost", ["human", "system"])
def test_a_turn_that_the_template_leaves_out_is_refused(lost: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    known = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content | trim + '\n' }}{% endfor %}"
    tokenizer.chat_template = known
    tokenise(tokenizer, conversation("user", learn_all=False))
    with pytest.raises(ConfigError, match=rf"leaves out the turn of '{lost}' .'Mia has 3 pens.* of problem '1'; acc"):
        tokenise(tokenizer, conversation(lost, "user", learn_all=False))


def test_thoughts_that_a_template_drops_from_earlier_answers_are_no_lost_turns() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = "{% for m in messages %}{{ m.content.split('</think>')[-1] + '\n' }}{% endfor %}"
    example = conversation("user", "assistant", "user", learn_all=False)
    thinking = example.messages[1]["content"]
    example.messages[1] = {"role": "assistant", "content": f"<think>9</think>{thinking}"}
    assert tokenise(tokenizer, example).num_supervised == 11


def test_what_is_too_long_is_left_out_whole() -> None:
    assert fits([10, 4, 5, 1], 4) == [1, 3]


def test_pack_is_a_partition_within_capacity() -> None:
    lengths = [len(tokens.ids) for tokens in sequences(50)]
    rows = pack(lengths, 64)
    assert sorted(index for row in rows for index in row) == list(range(50))
    assert all(sum(lengths[index] for index in row) <= 64 for row in rows)
    assert len(rows) <= 1.25 * sum(lengths) / 64


def test_labels_are_the_completion_and_eos_alone() -> None:
    batch = collate([Tokens(ids=[5, 6, 7, 8, 1], num_prompt=2)], 8)
    assert batch["labels"].tolist() == [[IGNORED, 7, 8, 1, IGNORED]]


def test_eos_is_learnt_where_it_is_the_padding_too() -> None:
    batch = collate([Tokens(ids=[5, 0], num_prompt=1), Tokens(ids=[5, 6, 7, 0], num_prompt=1)], 1)
    assert (batch["labels"] == 0).sum() == 2


def test_borders_are_those_of_every_sequence_and_of_padding() -> None:
    batch = collate(
        [Tokens(ids=[1] * 6, num_prompt=1), Tokens(ids=[1] * 4, num_prompt=1), Tokens(ids=[1] * 3, num_prompt=1)], 9
    )
    assert batch["input_ids"].shape == (2, 9)
    edges = borders(batch["position_ids"])
    assert edges["lengths"] == [6, 3, 4, 5] and edges["max_length_q"] == 6
    assert edges["cu_seq_lens_q"].tolist() == [0, 6, 9, 13, 18] and edges["cu_seq_lens_q"].dtype == torch.int32


def test_positions_of_padding_are_no_larger_than_those_of_sequences() -> None:
    batch = lay_out([Tokens(ids=[1] * 4, num_prompt=1) for _ in range(4)], [[0, 1, 2], [3]])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3] * 3] * 2
