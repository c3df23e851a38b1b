from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from micota.config import SftConfig, TrainerConfig
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.records import Example
from micota.sft.data import SftDataModule, Steps, check
from micota.sft.packing import IGNORED, Tokens, borders
from micota.sft.splits import problems_of, schedule, split
from micota.sft.token_table import TokenTable, check_texts, tokenise_once

CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", pack_length=20)


def example(completion: str = "1+1=2.") -> Example:
    messages = [{"role": "user", "content": "Ana has 1 pens:+1 mod 10?"}]
    return Example(problem_id="p1", messages=messages, completion=completion, num_tokens=0, source="short")


def tokens(*lengths: int) -> list[Tokens]:
    return [Tokens(ids=[5] * length, num_prompt=2) for length in lengths]


def test_a_table_gives_back_what_it_was_made_of() -> None:
    rows = [Tokens(ids=[1, 2, 3], num_prompt=1), Tokens(ids=[4, 5], num_prompt=0)]
    table = TokenTable.of(rows)
    assert list(table) == table[:] == rows and table.lengths == [3, 2]


@pytest.mark.parametrize(("template", "words"), [
    ("{{ raise_exception('System role not supported') }}", "System role not supported"),
    ("{{ messages[0]['content'] + 1 }}", "can only concatenate str"),
    ("{% for message in messages %}", "Unexpected end of template"),
])  # fmt: skip
def test_a_template_that_cannot_render_names_the_example(tmp_path: Path, template: str, words: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=rf"cannot render the messages of problem 'p1'.*{words}"):
        tokenise_once(tokenizer, [example()], "content", tmp_path)
    assert not list(tmp_path.iterdir())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def of_other_data(folder: Path) -> bytes:
    """The cached tokens of other data, as they are."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    before = {*folder.iterdir()}
    tokenise_once(tokenizer, [example(), example()], "other content", folder)
    [made] = {*folder.iterdir()} - before
    content = made.read_bytes()
    made.unlink()
    return content


@pytest.mark.parametrize("damage", [
    flip, lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
    lambda path: save_file({"ids": np.zeros(3, np.int32)}, path),
    lambda path: path.write_bytes(of_other_data(path.parent)),
])  # fmt: skip
def test_damaged_tokens_are_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    first = tokenise_once(tokenizer, [example()], "content", tmp_path)
    [cached] = tmp_path.iterdir()
    content = cached.read_bytes()
    damage(cached)
    assert list(tokenise_once(tokenizer, [example()], "content", tmp_path)) == list(first)
    assert cached.read_bytes() == content


def test_cached_tokens_have_the_mode_of_the_umask(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = os.umask(0o022)
    request.addfinalizer(lambda: os.umask(before))
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenise_once(tokenizer, [example()], "content", tmp_path)
    [cached] = tmp_path.iterdir()
    assert cached.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_an_error_of_the_tokenizer_is_not_one_of_the_template(tmp_path: Path, kind: type[Exception]) -> None:
    class Broken:
        chat_template, eos_token_id = "", 1

        def get_vocab(self) -> dict[str, int]:
            return {}

        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return "".join(turn["content"] for turn in messages)

        def __call__(self, text: str, **_: Any) -> Any:
            raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        tokenise_once(Broken(), [example()], "content", tmp_path)


def test_a_vocabulary_larger_than_the_embedding_is_refused() -> None:
    check(tokens(4), [example()], 6)
    with pytest.raises(ConfigError, match=r"produces id 5 \(problem 'p1'\), but the model embeds ids below 5"):
        check(tokens(4), [example()], 5)


def test_a_completion_that_is_an_end_alone_is_refused() -> None:
    only_its_end = Tokens(ids=[2, 3, 1], num_prompt=2)
    with pytest.raises(ConfigError, match=r"problem 'p1' has an empty completion"):
        check([only_its_end], [example("<eos>")], 6)


def test_an_unknown_word_is_found_in_any_example() -> None:
    """A tokenizer with a token for unknown words would teach it; here in one of 1,000 examples."""
    letters = "0123456789+=. "
    backend = Tokenizer(WordLevel({letter: index for index, letter in enumerate([*letters, "<unk>"])}, "<unk>"))
    backend.pre_tokenizer, backend.decoder = Split(Regex("."), "isolated"), Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    tokenizer.chat_template = "{{ messages[0].content }}"
    turns = [{"role": "user", "content": "1"}]
    examples = [replace(example(f"{number}+1"), messages=turns) for number in range(1000)]
    examples[777] = replace(examples[777], completion="777+½")

    def table() -> TokenTable:
        rows = [tokenizer(f"1{one.completion}")["input_ids"] for one in examples]
        return TokenTable.of(Tokens(ids=ids, num_prompt=1) for ids in rows)

    with pytest.raises(ConfigError, match=r"does not give texts back: '777\+½' becomes '777\+<unk>'"):
        check_texts(tokenizer, examples, table(), list(range(1000)))
    examples[777] = example("777+1")
    check_texts(tokenizer, examples, table(), list(range(1000)))


def test_examples_with_a_token_are_found() -> None:
    table = TokenTable.of([Tokens(ids=ids, num_prompt=1) for ids in ([2, 7], [3, 4, 5], [7, 3, 7], [7, 2])])
    assert table.with_token(7) == [0, 2, 3] and table.with_token(4) == [1] and table.with_token(9) == []


def test_what_validates_is_not_trained_on() -> None:
    kept, validation = split(range(20), 0.25, seed=0)
    assert len(validation) == 5 and sorted(kept + validation) == list(range(20))
    assert split(range(20), 0.25, seed=0) == (kept, validation) != split(range(20), 0.25, seed=1)
    assert split(range(3), 0.0, seed=0) == ([0, 1, 2], [])
    with pytest.raises(ConfigError, match=r"validation_fraction=0.01 keeps 0 of 20 problems"):
        split(range(20), 0.01, seed=0)


def test_no_sample_of_a_problem_that_validates_is_trained_on() -> None:
    problems = [f"p{number % 8}" for number in range(40)]
    sft = SftConfig(learning_rate=1e-3, batch_size=4, epochs=1, validation_fraction=0.25)
    module = SftDataModule(tokens(*[5] * 40), sft, CPU, 0, list(range(1, 40)), problems)
    trained, validated = ({problems[index] for step in steps for index in step}
                          for steps in (module.steps, module.validation_steps))  # fmt: skip
    assert len(validated) == 2 and len(trained) == 6 and not trained & validated
    assert sum(map(len, [*module.steps, *module.validation_steps])) == 39


def test_samples_of_one_question_are_of_one_problem_whatever_their_ids() -> None:
    def asked(identity: str, question: str, system: str = "Think.") -> Example:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        return Example(problem_id=identity, messages=turns, completion="2", num_tokens=0, source="x")

    examples = [
        asked("a", "1 + 1?"), asked("b", "2 + 2?"), asked("a-1", "1 +  1? "), asked("c", "1 + 1?", "Be short."),
        asked("b", "2 + 2, in words?"), asked("d", "2 + 2, in words?"), asked("e", "3 + 3?"),
    ]  # fmt: skip
    problems = problems_of(examples)
    assert problems == [0, 1, 0, 0, 1, 1, 6]
    for seed in range(5):
        kept, validation = split(problems, 0.34, seed)
        assert len({problems[index] for index in validation}) == 1
        assert not {problems[index] for index in kept} & {problems[index] for index in validation}


def test_examples_are_cut_where_the_published_code_cuts_them() -> None:
    rows = [
        Tokens(ids=[1, 2, 3, 4], num_prompt=1),
        Tokens(ids=[5, 6], num_prompt=1),
        Tokens(ids=[7, 8, 9], num_prompt=2),
    ]
    assert list(TokenTable.of(rows).cut(2)) == [
        Tokens(ids=[1, 2], num_prompt=1), Tokens(ids=[5, 6], num_prompt=1), Tokens(ids=[7, 8, 9], num_prompt=2)
    ]  # fmt: skip
    assert list(TokenTable.of(rows).cut(4)) == rows


def test_a_batch_may_be_of_packs() -> None:
    """Of 8 sequences of 5 tokens 4 fit a pack of 20: two packs, so one step of two packs has all."""
    sft = SftConfig(learning_rate=1e-3, batch_size=2, epochs=3, max_tokens=20, batch_of="packs")
    steps = SftDataModule(tokens(*[5] * 8), sft, CPU, seed=0).steps
    assert [sorted(step) for step in steps] == [list(range(8))] * 3
    single = SftDataModule(tokens(*[5] * 8), replace(sft, batch_size=1), CPU, seed=0).steps
    assert [len(step) for step in single] == [4] * 6
    plain = SftDataModule(tokens(*[5] * 8), replace(sft, batch_of="examples"), CPU, seed=0).steps
    assert [len(step) for step in plain] == [2] * 12


@pytest.mark.parametrize("world_size", [1, 3])
def test_no_micro_batch_has_lengths_on_both_sides_of_a_border(world_size: int) -> None:
    """Longrope takes the factors of the largest position of a batch, padding too."""
    sequences = tokens(9, 14, 11, 8, 6, 10, 19, 3)
    trainer = replace(CPU, micro_batch_rows=2)
    shares = [Steps(sequences, [[*range(8)]], trainer, 0, (rank, world_size), border=10)[0]
              for rank in range(world_size)]  # fmt: skip
    assert len({len(share.micro_batches) for share in shares}) == 1
    sides: dict[bool, list[int]] = {False: [], True: []}
    for batch in (batch for share in shares for batch in share.micro_batches):
        ids = batch["input_ids"].flatten().split(borders(batch["position_ids"])["lengths"])
        learnt = [len(row) for row in ids if row.any()]
        sides[int(batch["position_ids"].max()) >= 10] += learnt
    assert sorted(sides[False]) == [3, 6, 8, 9, 10] and sorted(sides[True]) == [11, 14, 19]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_share_a_step_without_loss_or_repetition(world_size: int) -> None:
    sequences = tokens(9, 14, 11, 8, 6)
    shares = [Steps(sequences, [[0, 1, 2, 3, 4]], CPU, 0, (rank, world_size))[0] for rank in range(world_size)]
    assert len({len(share.micro_batches) for share in shares}) == 1, "ranks must act as often as each other"
    counted = sum(int((piece["labels"] != IGNORED).sum()) for share in shares for piece in share.micro_batches)
    assert counted == shares[0].num_supervised == sum((9, 14, 11, 8, 6)) - 5 * 2


def test_what_is_cut_keeps_its_spans_without_loss_as_far_as_it_goes() -> None:
    whole = Tokens(ids=list(range(10)), num_prompt=2, gaps=((4, 6), (8, 9)))
    table = TokenTable.of([whole, whole])
    assert table.cut(5)[1] == Tokens(ids=list(range(5)), num_prompt=2, gaps=((4, 5),))
    assert table.cut(7)[0].num_supervised == 3 and table.cut(10)[0] == whole


def test_tables_are_joined() -> None:
    rows = [
        Tokens(ids=[1, 2, 3, 4], num_prompt=1, gaps=((2, 3),)),
        Tokens(ids=[5, 6], num_prompt=1),
        Tokens(ids=[7, 8, 9], num_prompt=1, gaps=((1, 2),)),
    ]
    joined = TokenTable.of(rows[:2]).with_rows_of(TokenTable.of(rows[2:] + rows[:1]))
    assert list(joined) == [*rows, rows[0]] and joined.lengths == [4, 2, 3, 4]


@pytest.mark.parametrize(("epochs", "max_steps"), [(1e9, None), (1, 10**12)])
def test_more_steps_than_memory_holds_are_refused(epochs: float, max_steps: int | None) -> None:
    """Their order was computed without end."""
    with pytest.raises(ConfigError, match=r"optimiser steps of 32 examples \(sft\.epochs=.*accepted: steps"):
        schedule(1000, 32, epochs, 0, max_steps)
