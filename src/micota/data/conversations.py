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
_CONTENT = ("content", "value", "text")
_THOUGHT = ("reasoning_content", "reasoning", "thinking")


def turns_of(fields: Fields, name: str) -> Turns:
    """Return the turns of a conversation with the roles that chat templates know.

    Raises:
        SourceError: it is no list of turns, or a role is unknown: its turn would be lost.
    """
    value = fields.parsed(name)
    if not isinstance(value, list) or not value:
        raise fields.refuse(name, value, TURNS)
    return [_turn(fields, name, turn) for turn in value]


def _turn(fields: Fields, name: str, turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise fields.refuse(name, [turn], TURNS)
    role = turn.get("role", turn.get("from"))
    known = ROLE_OF.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise fields.refuse(f"the role of a turn of {fields.columns.get(name, name)}", role, ", ".join(ROLE_OF))
    content = next((turn[key] for key in _CONTENT if turn.get(key) is not None), None)
    if isinstance(content, list):  # parts, as the API of OpenAI has them
        texts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        content = "".join(texts) if texts and all(isinstance(text, str) for text in texts) else content
    if not isinstance(content, str) or not content.strip():
        raise fields.refuse(f"the content of a {known} turn of {fields.columns.get(name, name)}", content, TEXT)
    thought = next((turn[key] for key in _THOUGHT if isinstance(turn.get(key), str) and turn[key].strip()), None)
    if known == "assistant" and thought is not None:
        content = tagged(thought, content, fields.thinking)
    return {"role": known, "content": fields.whole(name, content)}


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
    return fields.row(asked, last["content"], learn_all=several and fields.turns == "all", **more)


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
