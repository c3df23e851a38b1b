r"""Training rows in the shapes of public data sets: which columns make a shape, and how a row becomes a chat.

A new shape is one entry of ``SHAPES`` beside its function. Rows are of the first shape, in the order of the entries,
whose needed columns they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from micota.config.rows import RowsConfig
from micota.config.shapes import SHAPES, Shape, fields_of
from micota.data.conversations import answered, history, turns_of, with_system
from micota.data.prompts import Prompt, messages
from micota.data.training_rows import (
    GOLD_MARK,
    Fields,
    TrainingRow,
    Turns,
    columns_by_word,
    content_id,
    is_missing,
    tagged,
    truth,
)
from micota.errors import SourceError

_NO_TOOLS: tuple[Any, ...] = ("", "[]", "{}", "null", [], {})
_MOST_CHARS = 200  # of the names of columns in an error
_SWITCHES = ("on", "off", "true", "false", "yes", "no", "none", "low", "medium", "high")  # settings, no thoughts


def training_rows(row: Mapping[str, Any], where: str, source: RowsConfig, prompt: Prompt) -> Iterator[TrainingRow]:
    """Yield the training rows of one row of a file or set: one for each answer that it holds.

    Args:
        prompt: how the text of a problem becomes a prompt; a chat stays as it is.

    Raises:
        SourceError: the columns are of no known shape, or a value is not accepted; the text names row and field.
    """
    shape, columns = shape_of(row, where, source)
    values = {name: value_at(row, column) for name, column in columns.items()}
    fields = Fields(
        where=where, values=values, columns=columns, prompt=prompt, thinking=source.thinking, turns=source.turns
    )
    if not (is_missing(tools := values.get("tools")) or tools in _NO_TOOLS):
        raise fields.refuse("tools", tools, "rows without tools; data.columns={tools: null} learns them without")
    yield from shape.read(fields, shape)


def shape_of(row: Mapping[str, Any], where: str, source: RowsConfig) -> tuple[Shape, dict[str, str]]:
    """Return the shape of a row and the column of each of its fields.

    Raises:
        SourceError: the row is of no known shape.
    """
    for name, column in source.columns.items():
        if column is not None and not has_column(row, column):
            raise SourceError(
                f"{where}: data.columns={{{name}: {column}}}: there is no such column; it has {_names(row)}; "
                "accepted: one of its columns"
            )
    fitting, by_word = [], columns_by_word(row)
    for shape in SHAPES.values():
        if not set(_given(source)) <= fields_of(shape).keys():
            continue
        columns = _columns(row, shape, source)
        if shape.needs.keys() <= columns.keys() and not any(column in by_word for column in shape.lacks):
            fitting.append((shape, columns))
    if not fitting:
        raise SourceError(f"{where}: the columns {_names(row)} are of no known shape; accepted: {_accepted()}")
    # A file that joins several shapes has nulls in the columns of the others.
    filled = (pair for pair in fitting if not any(is_missing(value_at(row, pair[1][name])) for name in pair[0].needs))
    return next(filled, fitting[0])


def _accepted() -> str:
    """The fields of every shape in words, each shape once, and how columns of other names are given."""
    shapes = dict.fromkeys(" + ".join(shape.needs) for shape in SHAPES.values())
    return f"{', or '.join(shapes)}, as columns or by data.columns={{FIELD: COLUMN, ...}}"


def _given(source: RowsConfig) -> dict[str, str]:
    return {name: column for name, column in source.columns.items() if column is not None}


def _columns(row: Mapping[str, Any], shape: Shape, source: RowsConfig) -> dict[str, str]:
    given, by_word = _given(source), columns_by_word(row)
    columns: dict[str, str] = {}
    for name, known in fields_of(shape).items():
        if name in source.columns and source.columns[name] is None:
            continue
        # A column that was given for one field, or has one by its name, is not taken for another.
        taken = {*given.values(), *columns.values()}
        free = (by_word[word] for word in known if word in by_word and by_word[word] not in taken)
        column = given.get(name) or next(free, None)
        if column is not None:
            columns[name] = column
    return columns


def _names(row: Mapping[str, Any]) -> str:
    names = ", ".join(map(str, row)) or "none"
    return names if len(names) <= _MOST_CHARS else f"{names[:_MOST_CHARS].rpartition(', ')[0]} and others"


def has_column(row: Mapping[str, Any], column: str) -> bool:
    """Return whether a row has a column, or a dotted path into nested ones; what is below a null counts as there."""
    try:
        value_at(row, column)
    except LookupError:
        return False
    return True


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column, or of a dotted path into nested ones, as ``answers.0.text``; None where a part of
    it is null.

    Raises:
        LookupError: there is none.
    """
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if is_missing(value):
            return None
        if isinstance(value, list) and name.isdecimal():
            value = value[int(name)]
        elif isinstance(value, Mapping):
            value = value[name]
        else:
            raise LookupError(column)
    return value


def _own(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    source = fields.optional("source")
    asked = with_system(fields, turns_of(fields, "messages"))
    yield fields.row(asked, fields.text("completion"), source=source)


def _chat(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    yield answered(fields, with_system(fields, turns_of(fields, "messages")), "messages")


def _prompt(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    prompt = fields.parsed("prompt", or_text=True)
    is_chat = isinstance(prompt, list)
    asked = turns_of(fields, "prompt") if is_chat else [{"role": "user", "content": fields.text("prompt")}]
    completion = fields.parsed("completion", or_text=True)
    end = turns_of(fields, "completion") if isinstance(completion, list) else None
    end = end or [{"role": "assistant", "content": fields.text("completion")}]
    row = answered(fields, with_system(fields, [*asked, *end]), "completion")
    # The prompt is context, and the completion is what the set marks as learnt.
    yield replace(row, learn_all=row.learn_all and len(end) > 1)


def _instruction(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    context = fields.optional("input")
    text = fields.text("instruction") + (f"\n{context}" if context else "")
    turns = [*history(fields), {"role": "user", "content": text}]
    turns.append({"role": "assistant", "content": fields.text("completion")})
    yield answered(fields, with_system(fields, turns), "completion")


def _asked(fields: Fields) -> Turns:
    """Return the prompt of a problem, as evaluation has it; a system text of the row replaces that of the prompt."""
    turns = messages(fields.text("problem"), fields.prompt)
    system = fields.optional("system")
    return turns if system is None else [{"role": "system", "content": system}, turns[-1]]


def _problem(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    yield fields.row(_asked(fields), fields.text("completion"), **_of_problem(fields))


def _thought(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    completion = tagged(_thought_of(fields), fields.text("completion"), fields.thinking)
    yield fields.row(_asked(fields), completion, num_tokens=0, **_of_problem(fields))


def _thought_of(fields: Fields) -> str:
    value = fields.parsed("thought", or_text=True)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and value[0].strip():
        return fields.whole("thought", value[0])  # s1K has a list of one
    text = fields.text("thought")
    if text.strip().lower() in _SWITCHES:
        raise fields.refuse("thought", text, "a thought; data.columns={thought: null} leaves the column out")
    return text


def _worked(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    answer = fields.text("completion")
    if len(answer.split()) < 2:
        column = fields.columns["completion"]
        raise fields.refuse("completion", answer, f"a worked answer; data.columns={{completion: {column}}} learns any")
    marked = answer.rpartition(GOLD_MARK)[2].strip() if GOLD_MARK in answer else None
    yield fields.row(_asked(fields), answer, gold=fields.gold() or marked or None, **_of_problem(fields))


def _of_problem(fields: Fields) -> dict[str, Any]:
    """Return what a problem gives beside its prompt: the text without the template, and the id that follows from it."""
    problem = fields.text("problem")
    return {"questions": [problem], "problem_id": fields.identity() or content_id([problem])}


def _generations(fields: Fields, shape: Shape) -> Iterator[TrainingRow]:
    generations = fields.parsed("generations")
    if not isinstance(generations, list) or not generations or not all(isinstance(g, str) for g in generations):
        raise fields.refuse("generations", generations, "a list of at least one text")
    correct, complete = (_truths(fields, name) for name in ("correct", "complete"))
    reasons = [fields.finish("finish_reasons", reason) for reason in _by_generation(fields, "finish_reasons")]
    for index, text in enumerate(generations):
        reason = reasons[index] if index < len(reasons) else "stop"
        if index < len(complete) and complete[index] is False:
            reason = "length"
        verdict = correct[index] if len(correct) == len(generations) else None  # a shorter list judges none of them
        yield fields.row(
            _asked(fields),
            fields.whole("generations", text),
            correct=verdict,
            finish_reason=reason if text.strip() else "error",
            num_tokens=0,
            **_of_problem(fields),
        )


def _truths(fields: Fields, name: str) -> list[bool | None]:
    values = _by_generation(fields, name)
    truths = [bool(value) if value in (0, 1) else truth(value) for value in values]
    for value, known in zip(values, truths, strict=True):
        if known is None and not is_missing(value):
            raise fields.refuse(f"an entry of {fields.columns[name]}", value, "true, false or null")
    return truths


def _by_generation(fields: Fields, name: str) -> list[Any]:
    value = fields.parsed(name)
    if is_missing(value) or value == "":
        return []
    if not isinstance(value, list):
        raise fields.refuse(name, value, "a list, with one entry for each generation")
    return value


PROBLEM = ("problem", "question")
CHAT = ("messages", "conversations", "conversation")
SYSTEM = ("system", "system_prompt")
LEARNT = ("completion", "generation", "generated_solution", "response", "output", "solution")
SHAPES.add(
    Shape(
        name="chat and completion",
        about="The rows that micota writes: the chat before the answer, and the text to learn.",
        needs={"messages": CHAT, "completion": ("completion",)},
        takes={"system": SYSTEM, "source": ("source",)},
        read=_own,
    )
)
SHAPES.add(
    Shape(
        name="generations",
        about="A problem and several answers with their verdicts, as OpenR1-Math: one training row for each answer.",
        needs={"problem": PROBLEM, "generations": ("generations", "responses", "completions")},
        takes={
            "correct": ("correctness_math_verify", "correctness", "correct"),
            "complete": ("is_reasoning_complete",),
            "finish_reasons": ("finish_reasons",),
            "system": SYSTEM,
        },
        read=_generations,
    )
)
SHAPES.add(
    Shape(
        name="thought and answer",
        about="A problem, and its thought and answer in two columns, as s1K-1.1 and the metadata of OpenThoughts-114k.",
        needs={
            "problem": (*PROBLEM, "prompt", "instruction"),
            "thought": ("thought", "deepseek_reasoning", "deepseek_thinking_trajectory", "thinking_trajectory",
                        "thinking_trajectories", "reasoning_content", "reasoning", "thinking"),
            "completion": ("deepseek_solution", "deepseek_attempt", "attempt", "completion", "response", "output",
                           "solution"),
        },
        takes={"system": SYSTEM},
        read=_thought,
    )
)  # fmt: skip
SHAPES.add(
    Shape(
        name="conversation",
        about="A chat that ends in an answer: role and content, or from and value with human and gpt.",
        needs={"messages": CHAT},
        takes={"system": SYSTEM},
        read=_chat,
    )
)
SHAPES.add(
    Shape(
        name="instruction",
        about="An instruction with its context and output, as Alpaca's; LLaMA-Factory adds system and history.",
        needs={"instruction": ("instruction",), "completion": ("output", "response", "completion")},
        takes={"input": ("input", "context"), "system": SYSTEM, "history": ("history",)},
        read=_instruction,
    )
)
SHAPES.add(
    Shape(
        name="prompt and completion",
        about="A prompt and its completion, as texts or as lists of turns.",
        needs={"prompt": ("prompt", "query", "input"), "completion": ("completion", "response", "output")},
        takes={"system": SYSTEM},
        read=_prompt,
    )
)
SHAPES.add(
    Shape(
        name="problem and solution",
        about="A problem and one answer, as LIMO and the sets of UWNSL; the prompt of the config is put around it.",
        needs={"problem": PROBLEM, "completion": LEARNT},
        takes={"system": SYSTEM},
        read=_problem,
    )
)
SHAPES.add(
    Shape(
        name="question and worked answer",
        about="A problem with a worked answer, as GSM8K; what is after the last #### is the gold answer.",
        needs={"problem": PROBLEM, "completion": ("answer",)},
        takes={"system": SYSTEM},
        lacks=LEARNT,
        read=_worked,
    )
)
