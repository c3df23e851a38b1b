"""Variables and files of chat templates: one rendering in generation, training, evaluation and the written model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

import micota
from micota import graph
from micota.artifacts.jsonl import read_jsonl
from micota.data.chat_template import use_template, with_variables
from micota.data.prompts import prefilled, prompt_hash, render
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.model_files import write_tokenizer
from micota.records import COMPLETIONS, Completion

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
TURNS = (
    "{%- for turn in messages %}{{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}{%- endfor %}"
)
START = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
# As Qwen3: thinks unless the variable is false, and then gets an empty thought.
OFF = f"{TURNS}{START}{{%- if enable_thinking is defined and enable_thinking is false %}}{{{{- '<think>\\n\\n</think>\\n\\n' }}}}{{%- endif %}}{{%- endif %}}"  # fmt: skip  # noqa: E501
# As SmolLM3: the variable has a default, and chooses a mode that the system turn names.
MODE = f"{{%- if enable_thinking is not defined -%}}{{%- set enable_thinking = true -%}}{{%- endif -%}}{{%- if enable_thinking -%}}{{%- set mode = '/think' -%}}{{%- else -%}}{{%- set mode = '/no_think' -%}}{{%- endif -%}}{{{{- 'Mode: ' + mode + '\\n' -}}}}{TURNS}{START}{{%- endif %}}"  # fmt: skip  # noqa: E501
# As R1-Distill: the thought is opened in the prompt.
OPEN = f"{TURNS}{START}{{{{- '<think>\\n' }}}}{{%- endif %}}"


def tokenizer_with(template: str | None = None, **values: Any) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    use_template(tokenizer, SimpleNamespace(template=template, template_args=values))
    return tokenizer


@pytest.mark.parametrize("template", [OFF, MODE])
@pytest.mark.parametrize("values", [{"enable_thinking": False}, {"enable_thinking": True}])
def test_a_variable_in_the_text_is_one_that_is_passed(template: str, values: dict[str, Any]) -> None:
    plain = tokenizer_with(template)
    passed = plain.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True, **values)
    assert render(tokenizer_with(template, **values), QUESTION) == passed
    thinks = render(tokenizer_with(template, enable_thinking=True), QUESTION)
    assert (render(plain, QUESTION) == thinks) and ((passed == thinks) == values["enable_thinking"])


def test_thinking_off_leaves_an_ended_thought_in_the_prompt() -> None:
    rendered = render(tokenizer_with(OFF, enable_thinking=False), QUESTION)
    assert rendered.endswith("<think>\n\n</think>\n\n") and prefilled(rendered) == ""
    assert prefilled(render(tokenizer_with(OPEN), QUESTION)) == "<think>\n"


def test_values_of_every_kind() -> None:
    values = {"text": "a'b\"c", "nothing": None, "flag": True, "number": 1.5, "list": [1, None], "map": {"k": False}}
    shown = "{{ [text, nothing is none, flag, number, list[1] is none, map.k] | tojson }}"
    tokenizer = tokenizer_with(shown, **values)
    assert json.loads(render(tokenizer, QUESTION)) == ["a'b\"c", True, True, 1.5, True, False]
    assert with_variables("x", {}) == "x"


# As Llama 3.1 and 3.2, and as SmolLM3.
LLAMA = "{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now(\"%d %b %Y\") %}{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}{%- endif %}{{- 'Today Date: ' + date_string + '\\n' }}" + TURNS + START + "{%- endif %}"  # fmt: skip  # noqa: E501
TODAY = "{%- set today = strftime_now('%d %B %Y') -%}{{- 'Today: ' + today + '\\n' -}}" + TURNS + START + "{%- endif %}"


@pytest.mark.parametrize(("template", "date", "first"), [
    (LLAMA, None, "Today Date: 26 Jul 2024"), (LLAMA, "1 Jan 2025", "Today Date: 1 Jan 2025"),
    (TODAY, None, "Today: 26 July 2024"), (TODAY, "1 Jan 2025", "Today: 01 January 2025"),
])  # fmt: skip
def test_a_prompt_does_not_depend_on_the_day(template: str, date: str | None, first: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = template
    use_template(tokenizer, SimpleNamespace(template=None, template_args={}, date_string=date))
    assert render(tokenizer, QUESTION).splitlines()[0] == first
    use_template(tokenizer, SimpleNamespace(template=None, template_args={}, date_string=None))
    assert render(tokenizer, QUESTION).splitlines()[0] == first, "a written model keeps its date"


def test_a_date_in_one_of_several_templates_is_fixed(tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = {"default": LLAMA, "tool_use": TODAY}
    use_template(tokenizer, SimpleNamespace(template=None, template_args={}, date_string=None))
    assert render(tokenizer, QUESTION).splitlines()[0] == "Today Date: 26 Jul 2024"
    write_tokenizer(tokenizer, None, tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert render(again, QUESTION) == render(tokenizer, QUESTION)


def test_a_date_that_cannot_be_fixed_is_refused(composed: Callable[..., Any]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    tokenizer.chat_template = "{{ strftime_now(messages[0].role) }}"
    with pytest.raises(ConfigError, match=r"reads the clock by strftime_now with a format that is no text in quotes"):
        use_template(tokenizer, SimpleNamespace(template=None, template_args={}))
    tokenizer.chat_template = "{%- set now = strftime_now %}{{ now('%d') }}"
    with pytest.raises(ConfigError, match=r"reads the clock by strftime_now"):
        use_template(tokenizer, SimpleNamespace(template=None, template_args={}))
    tokenizer.chat_template = OPEN
    with pytest.raises(ConfigError, match=r"date_string='1 Jan 2025': the chat template of .* has no date"):
        use_template(tokenizer, SimpleNamespace(template=None, template_args={}, date_string="1 Jan 2025"))
    with pytest.raises(ConfigError, match=r"student\.date_string='today'; accepted: null, or a day as 26 Jul 2024"):
        composed("train", "student.date_string=today")


def test_a_date_enters_keys(composed: Callable[..., Any]) -> None:
    keys = [graph.model(composed("train", "data=micota", *extra), "student").key
            for extra in ([], ["student.date_string=null"], ["student.date_string=1 Jan 2025"])]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_what_cannot_be_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"template_args\.enable_thinkin: the chat template of .* has no variable"):
        tokenizer_with(OFF, enable_thinkin=False)
    with pytest.raises(ConfigError, match=r"the template of .* cannot render a question \(.*\); accepted: a Jinja"):
        tokenizer_with("{% if %}")


def test_the_content_of_a_template_enters_keys(composed: Callable[..., Any], tmp_path: Path) -> None:
    def key(*overrides: str) -> str:
        config = composed("train", "data=micota", *overrides)
        return graph.model(config, "student").key

    one, same = tmp_path / "one.jinja", tmp_path / "same.jinja"
    one.write_text(OFF)
    same.write_text(OFF)
    plain = key()
    assert key(f"student.chat_template={one}") == key(f"student.chat_template={same}") != plain
    one.write_text(OPEN)
    assert key(f"student.chat_template={one}") != key(f"student.chat_template={same}")
    off = key("+student.template_args={enable_thinking: false}")
    assert off == key("+student.template_args.enable_thinking=false") != plain
    with pytest.raises(
        ConfigError, match=r"student\.chat_template='.*none\.jinja' cannot be read .*; accepted: a file"
    ):
        composed("train", f"student.chat_template={tmp_path / 'none.jinja'}")
    with pytest.raises(ConfigError, match=r"student\.template_args=.*; accepted: a map of names of variables"):
        composed("train", "+student.template_args={a-b: 1}")


def test_an_api_gets_the_variables(composed: Callable[..., Any]) -> None:
    from micota.artifacts.store import Store
    from micota.config import ChatConfig, EngineConfig, SamplingConfig
    from micota.engines.base import Request
    from micota.runtime.inputs import close_engine, engine_for

    engine = EngineConfig(name="chat", chat=ChatConfig(url="http://localhost:1/v1"))
    off = composed("generate", "+teacher.template_args.enable_thinking=false").teacher
    opened: Any = engine_for(Store("unused"), graph.source(off), engine)
    body = opened._body(Request(id=("a", 0), prompt_ids=[], seed=0, messages=QUESTION), SamplingConfig())
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    off.template_text = OFF
    with pytest.raises(ConfigError, match="chat_template with engine=chat"):
        engine_for(Store("unused"), graph.source(off), engine)
    close_engine()


def test_a_trained_model_renders_as_it_was_trained(tmp_path: Path) -> None:
    template = tmp_path / "lines.jinja"
    template.write_text(
        "{%- for turn in messages %}{{- turn.content }}{%- endfor %}"
        "{%- if lines is defined and lines == 2 %}{{- '\\n\\n' }}{%- else %}{{- '\\n' }}{%- endif %}"
    )
    rows = [{"problem_id": str(i), "messages": [{"role": "user", "content": f"{i} + 4"}], "completion": "7",
             "num_tokens": 1, "source": "mine"} for i in range(1, 5)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["experiment=tiny", f"data.path={tmp_path / 'rows.jsonl'}", f"student.chat_template={template}",
                "+student.template_args.lines=2", f"artifacts={tmp_path / 'art'}", "tracker=none",
                "select.num_examples=null"]  # fmt: skip
    folder = micota.train(settings)
    written: Any = AutoTokenizer.from_pretrained(folder)
    assert render(written, [{"role": "user", "content": "3 + 4"}]) == "3 + 4\n\n"
    micota.evaluate([*settings, "bench=[tiny_easy]", "bench.easy.limit=2"])
    [rows_of] = [read_jsonl(path, Completion) for path in (tmp_path / "art").glob(f"completions/*/{COMPLETIONS}")]
    from micota.data.sources import load_problems

    config = micota.compose([*settings, "bench=[tiny_easy]", "bench.easy.limit=2"])
    expected = {
        prompt_hash(
            render(written, [{"role": "user", "content": config.prompt.template.replace("{problem}", p.problem)}])
        )
        for p in load_problems(config.bench["easy"])
    }
    assert {row.prompt_hash for row in rows_of} == expected


def test_data_of_a_thought_without_tags_are_refused(tmp_path: Path) -> None:
    template = tmp_path / "opens.jinja"
    template.write_text("{%- for turn in messages %}{{- turn.content }}{%- endfor %}{{- '\\n<think>' }}")
    settings = ["experiment=tiny", "data=strong", f"teacher.chat_template={template}", f"artifacts={tmp_path}",
                "tracker=none", "problems.limit=1"]  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"opens a thought \(<think>\), and the model has no tags of it.*open:'<think>'"
    ):
        micota.generate(settings)
