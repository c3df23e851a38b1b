"""Values in quotes, in which Hydra's grammar of overrides has no special signs."""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

_OPENING = re.compile(r"(\\*)\$\{")
_ESCAPED = re.compile(r"(\\*)\\\$\{")


def quoted_value(value: str) -> str:
    """A text as the value of an override. ``${`` begins no interpolation in it."""
    text = _OPENING.sub(lambda found: found[1] * 2 + r"\${", value)
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def plain_value(text: str) -> str:
    """The text that the value of an override stands for: without quotes, or as it is."""
    if text[:1] not in ("'", '"'):
        return text
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:  # which is refused later, by its own line
        return text.strip("'\"")
    if not isinstance(value, str):
        return text
    return _ESCAPED.sub(lambda found: found[1][: len(found[1]) // 2] + "${", value)
