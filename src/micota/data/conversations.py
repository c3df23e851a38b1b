"""Conversations of public data sets: their roles, their forms, and what is learnt of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micota.data.training_rows import TEXT, Fields, TrainingRow, Turns, is_missing, retagged, tagged

# The names of roles in public sets, and the name that chat templates know.
ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"),
    "tool": ("tool", "observation", "function_response"),
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
TURNS = 'a list of turns, as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
_ROLE = ("role", "from")
_CONTENT = ("content", "value", "text")
_CALLS = ("tool_calls", "function_call")
_LEARNT = ("weight", "train", "loss")  # of single turns: whether they are learnt
_THOUGHT = ("reasoning_content", "reasoning", "thinking")


def turns_of(fields: Fields, name: str) -> Turns:
    """Return the turns of a conversation with the roles that chat templates know.

    Raises:
        SourceError: it is no list of turns, or a role is unknown: its turn would be lost.
    """
    value = fields.parsed(name)
    if not isinstance(value, list) or not value:
        raise fields.refuse(name, value, TURNS)
    turns = [_turn(fields, name, turn) for turn in value if not _is_empty_system(turn)]
    if not turns:
        raise fields.refuse(name, value, TURNS)
    return turns


def _role(turn: Any) -> str | None:
    """The role of a turn that chat templates know; sets that join several forms have nulls in the names of others."""
    named = next((turn[key] for key in _ROLE if turn.get(key) is not None), None) if isinstance(turn, Mapping) else None
    return ROLE_OF.get(named.strip().lower()) if isinstance(named, str) else None


def _is_empty_system(turn: Any) -> bool:
    texts = [turn[key] for key in _CONTENT if turn.get(key) is not None] if isinstance(turn, Mapping) else [None]
    return _role(turn) == "system" and all(isinstance(text, str) and not text.strip() for text in texts)


def _turn(fields: Fields, name: str, turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise fields.refuse(name, [turn], TURNS)
    known, column = _role(turn), fields.columns.get(name, name)
    if known is None:
        role = next((turn[key] for key in _ROLE if turn.get(key) is not None), None)
        raise fields.refuse(f"the role of a turn of {column}", role, ", ".join(ROLE_OF))
    for key in _CALLS:
        if turn.get(key):
            raise fields.refuse(
                f"{key} of a turn of {column}", turn[key], "turns of text alone; the call would be lost"
            )
    content = next((turn[key] for key in _CONTENT if turn.get(key) is not None), None)
    if isinstance(content, list):  # parts, as the API of OpenAI has them
        texts: list[Any] = [_text_of(part) for part in content]
        content = "".join(texts) if texts and all(isinstance(text, str) for text in texts) else content
    if not isinstance(content, str) or not content.strip():
        article = "an" if known == "assistant" else "a"
        what = f"the content of {article} {known} turn of {column}"
        raise fields.refuse(what, content, f"{TEXT}, or a list of parts of text")
    thought = next((turn[key] for key in _THOUGHT if isinstance(turn.get(key), str) and turn[key].strip()), None)
    if known == "assistant" and thought is not None:
        content = tagged(thought, content, fields.thinking)
    return {"role": known, "content": fields.whole(name, content)}


def _text_of(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return part.get("text") if part.get("type") in (None, "text", "input_text", "output_text") else None


def with_system(fields: Fields, turns: Turns) -> Turns:
    """Return the turns after the system text of its own column, if there is one."""
    system = fields.optional("system")
    if system is None or turns[0] == {"role": "system", "content": system}:
        return turns
    if turns[0]["role"] == "system":
        raise fields.refuse("system", system, "one system text: in its column, or as the first turn")
    return [{"role": "system", "content": system}, *turns]


def answered(fields: Fields, turns: Turns, name: str, **more: Any) -> TrainingRow:
    """Return the training row of a conversation that ends in an answer."""
    *asked, last = turns
    if last["role"] != "assistant":
        raise fields.refuse(f"the last role of {fields.columns.get(name, name)}", last["role"], "assistant")
    first = next((turn["role"] for turn in asked if turn["role"] != "system"), None)
    if first != "user":
        raise fields.refuse(f"the first role of {fields.columns.get(name, name)}", first or "assistant", "user")
    asked = [turn | {"content": retagged(turn["content"], fields.thinking)} for turn in asked]
    several = any(turn["role"] == "assistant" for turn in asked)
    learns_all = _learns_earlier(fields, name) and several and fields.turns == "all"
    return fields.row(asked, last["content"], learn_all=learns_all, **more)


def _learns_earlier(fields: Fields, name: str) -> bool:
    """Whether earlier answers are learnt; some sets mark turns.

    Raises:
        SourceError: the marks are neither for all answers nor for the last alone.
    """
    turns = fields.parsed(name)
    answers = [turn for turn in turns if _role(turn) == "assistant"] if isinstance(turns, list) else []
    *earlier, last = [_is_learnt(fields, name, turn) for turn in answers] or [True]
    if not last or len(set(earlier)) > 1:
        raise fields.refuse(
            f"the marks ({', '.join(_LEARNT)}) of the answers of {fields.columns[name]}",
            [*earlier, last],
            "all answers learnt, or the last alone",
        )
    return all(earlier)


def _is_learnt(fields: Fields, name: str, turn: Mapping[str, Any]) -> bool:
    key = next((key for key in _LEARNT if turn.get(key) is not None), None)
    if key is not None and turn[key] not in (0, 1):
        raise fields.refuse(f"{key} of a turn of {fields.columns[name]}", turn[key], "0, 1, true, false or null")
    return key is None or bool(turn[key])


def history(fields: Fields) -> Turns:
    """Return earlier turns, which LLaMA-Factory's format has as pairs of instruction and response."""
    pairs = fields.parsed("history")
    if is_missing(pairs) or pairs in ("", []):
        return []
    is_pairs = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) and text for text in pair)
        for pair in pairs
    )
    if not is_pairs:
        raise fields.refuse("history", pairs, "a list of pairs [instruction, response] of texts")
    roles = ("user", "assistant")
    return [
        {"role": role, "content": fields.whole("history", text)}
        for pair in pairs
        for role, text in zip(roles, pair, strict=True)
    ]
