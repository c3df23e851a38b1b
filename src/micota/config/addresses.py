"""Addresses of APIs, and keys, which stand in the environment and nowhere in a config."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from micota.secrets import FORMS, SECRET, keys_of_environment

URL = "the base URL of an OpenAI-compatible API, as http://localhost:8000/v1, without a key"


def is_url(text: str) -> bool:
    """Whether a text is the address of a server, without a name, password or key in it."""
    try:
        parts = urlsplit(text)
        has_host, _ = bool(parts.hostname), parts.port
    except ValueError:
        return False
    named = [*parse_qsl(parts.query), *parse_qsl(parts.fragment)]
    is_open = parts.username is None and not any(SECRET.search(name) for name, _ in named) and not FORMS.search(text)
    return parts.scheme in ("http", "https") and has_host and is_open and text.isprintable() and " " not in text


def holds_key(node: Any) -> bool:
    """Whether a map, or one below it, has an entry that is named as a key is, or a text that has the form of one or is
    that of the environment, which ``${oc.env:NAME}`` puts there."""
    if isinstance(node, str):
        return FORMS.search(node) is not None or any(key in node for key in keys_of_environment())
    if isinstance(node, list):
        return any(map(holds_key, node))
    return isinstance(node, dict) and any(
        SECRET.search(str(name)) is not None or holds_key(value) for name, value in node.items()
    )
