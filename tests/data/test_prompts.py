from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

import micota
from micota import graph
from micota.config import ThinkingConfig
from micota.data.prompts import messages, prefilled, prompt_hash, prompt_text, render, split, target, token_ids
from micota.data.sources import model_folder
from micota.errors import ConfigError, SourceError
from micota.graph import Prompt
from micota.pretrained import load_tokenizer


class Tokenizer:
    """Renders turns as ``role: content``."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize and add_generation_prompt
        return "".join(f"{turn['role']}: {turn['content']}\n" for turn in conversation) + "assistant: "


def test_a_chat_and_its_bare_text() -> None:
    chat = Prompt(template="Solve {problem} {x}", system="Be brief.")
    assert messages("1+1", chat)[1] == {"role": "user", "content": "Solve 1+1 {x}"}
    assert prompt_text(Tokenizer(), "1+1", chat) == "system: Be brief.\nuser: Solve 1+1 {x}\nassistant: "
    bare = Prompt(template="{problem}\nStep by step.", system=None, as_chat=False)
    assert prompt_text(Tokenizer(), "1+1", bare) == "1+1\nStep by step."
    assert prompt_hash("a") != prompt_hash("b")


def test_a_template_that_refuses_a_role_is_one_line() -> None:
    class Strict(Tokenizer):
        name_or_path = "gemma"

        def apply_chat_template(self, conversation: list[dict[str, str]], **_: bool) -> str:  # type: ignore[override]
            raise TemplateError("System role not supported")

    with pytest.raises(ConfigError, match=r"of gemma cannot .* \['system', 'user'\] \(System role not supported\)"):
        prompt_text(Strict(), "1+1", Prompt(template="{problem}", system="Be brief."))


def test_a_prompt_of_which_the_template_leaves_out_a_text_is_refused() -> None:
    class Silent(Tokenizer):
        def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> str:
            return "".join(turn["content"] for turn in conversation if turn["role"] == "user")

    assert prompt_text(Silent(), "1+1", Prompt(template="{problem}", system=None)) == "1+1"
    with pytest.raises(
        ConfigError, match=r"leaves out the text of 'system' \('Be brief.'\); accepted: .*prompt.system"
    ):
        prompt_text(Silent(), "1+1", Prompt(template="{problem}", system="Be brief."))


def test_one_prompt_for_all_unless_the_papers_prompts_are_chosen(composed: Callable[..., Any]) -> None:
    chat, plain = composed("generate"), composed("generate", "prompt=paper")
    for config, is_one in ((chat, True), (plain, False)):
        data = graph.data(config, config.ta_data)
        prompt = data.inputs["completions"].spec.prompt
        scored = graph.scores(config, "teacher")["math500"].inputs["completions"].spec.prompt
        assert data.spec.prompt.as_chat and scored.as_chat
        assert (prompt == data.spec.prompt == scored) is is_one
    assert not prompt.as_chat and prompt.template == data.spec.prompt.template
    assert scored.template.startswith("Solve the following math problem.")


def test_graders_do_not_change_the_key_of_completions(composed: Callable[..., Any]) -> None:
    def keys(*overrides: str) -> tuple[str, str]:
        scores = graph.scores(composed("evaluate", "data=instruct", "bench=[gsm8k]", *overrides), "student")["gsm8k"]
        return scores.inputs["completions"].key, scores.key

    before = keys()
    for override in ("evaluation.grader=paper_rule", "bench.gsm8k.answer_type=integer", "bench.gsm8k.num_rows=1000"):
        after = keys(override)
        assert after[0] == before[0] and after[1] != before[1], override
    assert keys("evaluation.num_workers=1", "evaluation.timeout_s=1") == before


THINKING = ThinkingConfig(open="<think>", close="</think>")


@pytest.mark.parametrize(("completion", "opened", "cot", "answer"), [
    ("so\n</think>\n\n7", "<think>\n", "so", "7"),  # as R1 writes
    ("<think>\nso\n</think>\n7", "", "so", "7"),  # the template has no tag
    ("<think>\nso\n</think>\n7", "<think>\n", "so", "7"),
    ("so", "<think>\n", "so", None),  # cut off
    ("so </think> 7", "", "so", "7"),
    ("7", "", None, "7"),  # did not think
    ("<think>\n\n</think>\n\n7", "", "", "7"),
    ("Well. <think>\nso\n</think>\n7", "", "Well.\n\nso", "7"),
    ("Well. <think>\nso\n</think>\n7", "<think>\n", "Well.\n\nso", "7"),  # opened in the prompt, and again
    ("<think>so<think>then</think>7", "", "so\n\nthen", "7"),
    ("<think>so</think>no<think>then</think>7", "", "so\n\nno\n\nthen", "7"),
    ("Well. <think>\nso", "", "Well.\n\nso", None),
    ("<think>so</think>7<think>no", "", "so\n\n7\n\nno", None),
])  # fmt: skip
def test_a_completion_is_split_into_thought_and_answer(
    completion: str, opened: str, cot: str | None, answer: str | None
) -> None:
    assert split(completion, THINKING, opened) == (cot, answer)
    assert split(completion, ThinkingConfig(), opened) == (None, completion)


@pytest.mark.parametrize(("completion", "opened", "tagged"), [
    ("so</think>7", "<think>\n", "<think>\nso</think>7"),
    ("Well. <think>so</think>7", "<think>\n", "<think>\nWell.\n\nso\n</think>\n\n7"),
    ("Well. <think>so</think>7", "", "<think>\nWell.\n\nso\n</think>\n\n7"),
    ("<think>so</think>no<think>then</think>7", "", "<think>\nso\n\nno\n\nthen\n</think>\n\n7"),
])  # fmt: skip
def test_a_target_has_each_tag_once(completion: str, opened: str, tagged: str) -> None:
    assert target(completion, THINKING, opened, "tagged") == tagged
    assert "think>" not in target(completion, THINKING, opened, "untagged")


def test_what_a_template_opens_in_the_prompt_is_seen() -> None:
    assert prefilled("Hi<|Assistant|><think>\n") == "<think>\n"
    assert prefilled("<think> is a tag\n") == prefilled("<|im_start|>assistant\n") == ""
    assert prefilled("Hi [THINK]", "[THINK]") == prefilled("Hi [THINK]") == "[THINK]"
    assert prefilled("<|CHATBOT_TOKEN|><|START_THINKING|>") == "<|START_THINKING|>"
    assert prefilled("<seed:think>\n") == "<seed:think>\n"


def test_a_text_of_words_that_the_toy_models_do_not_know_is_refused() -> None:
    tokenizer = load_tokenizer(Path(micota.__file__).parent / "tiny" / "models" / "teacher")
    assert token_ids(tokenizer, "1 + 1")
    with pytest.raises(
        SourceError, match=r"no tokens for 'How', 'many', 'ducks' of the text 'How many ducks.*accepted"
    ):
        token_ids(tokenizer, "How many ducks?")
    with pytest.raises(SourceError, match=r"no tokens for '.ud800' of the text '1 .ud800'"):
        token_ids(tokenizer, "1 \ud800")


def test_a_tokenizer_without_a_template_says_what_to_give() -> None:
    tokenizer = load_tokenizer(model_folder("bundled:ta"))
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"^the tokenizer of .*ta has no chat template; accepted: a file with one,"):
        render(tokenizer, [{"role": "user", "content": "hi"}])
