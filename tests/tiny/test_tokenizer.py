"""The tokenizer: lossless on the task, and an ordinary Hugging Face folder whichever class reads it."""

import random
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from micota.tiny.task import LONG, HabitMix, sample_habits, sample_question, write_short, write_solution
from micota.tiny.tokenizer import EOS_ID, PAD_ID, build_tokenizer, vocabulary

PROBLEM = "Ana has 9 pens:*9*3*2-6 mod 10?"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def reloaded(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """As `AutoTokenizer` reads it beside a bundled config, which makes it choose Qwen2's class."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    shutil.copy(str(files("micota.tiny") / "models" / "ta" / "config.json"), folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_vocabulary(tokenizer: PreTrainedTokenizerFast, reloaded: PreTrainedTokenizerFast) -> None:
    assert reloaded.get_vocab() == tokenizer.get_vocab()
    assert reloaded.padding_side == "left"
    assert len(tokenizer) == len(vocabulary()) == len(set(vocabulary())) == 58
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<eos>"]) == [PAD_ID, EOS_ID] == [0, 1]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)


def test_round_trip(tokenizer: PreTrainedTokenizerFast, reloaded: PreTrainedTokenizerFast) -> None:
    rng = random.Random(0)
    mixes = (LONG, HabitMix(pre=0.5, ann=0.5, dec=0.5, chk=0.5, chk_rates=(0.3, 1.0), chk2=0.5, fin=0.5))
    used: set[int] = set()
    for _ in range(300):
        num_steps = rng.randint(1, 8)
        question = sample_question(rng, num_steps)
        solutions = [write_solution(question, sample_habits(rng, mix, num_steps)) for mix in mixes]
        for text in (question.problem, write_short(question), *solutions):
            ids = tokenizer(text + "\n")["input_ids"]
            assert reloaded(text + "\n")["input_ids"] == ids
            assert tokenizer.decode(ids) == reloaded.decode(ids) == text + "\n"
            used.update(ids)
    assert used == set(range(58)) - {PAD_ID, EOS_ID}  # no special token is added, every other one is needed


def test_chat_template_survives_saving(reloaded: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": PROBLEM}]
    for prompt in (False, True):
        text = reloaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert text == PROBLEM + "\n"
    messages.append({"role": "assistant", "content": r"\boxed{0}"})
    assert reloaded.apply_chat_template(messages, tokenize=False) == PROBLEM + "\n\\boxed{0}<eos>"
    messages.insert(0, {"role": "system", "content": "Okay, "})
    assert reloaded.apply_chat_template(messages, tokenize=False) == f"Okay, \n{PROBLEM}\n\\boxed{{0}}<eos>"


def test_rendered_text_tokenises_as_it_is(
    tokenizer: PreTrainedTokenizerFast, reloaded: PreTrainedTokenizerFast
) -> None:
    messages = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": r"\boxed{0}"}]
    rendered = reloaded.apply_chat_template(messages, tokenize=False)
    ids = reloaded(rendered)["input_ids"]
    assert ids == tokenizer(rendered)["input_ids"]
    assert ids == reloaded.apply_chat_template(messages, return_dict=False)
    assert ids == reloaded(rendered, add_special_tokens=False)["input_ids"]
    assert ids.count(EOS_ID) == 1
    assert ids[-1] == EOS_ID
    assert reloaded.decode(ids) == rendered


def test_whatever_a_model_strings_together_is_tokens_again() -> None:
    tokenizer = build_tokenizer()
    generator = random.Random(0)
    for _ in range(20_000):
        ids = [generator.randrange(2, len(vocabulary())) for _ in range(generator.randrange(1, 12))]
        text = tokenizer.decode(ids)
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(again) == text
