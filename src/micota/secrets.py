"""Keys and passwords in names and texts: what is printed, logged or stored has none."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

SHORTEST = 8  # characters of the value of a variable that counts as a key
# Names of entries and parameters that hold a key; names as eos_token and prompt_cache_key are none.
SECRET = re.compile(
    r"^(?:key|token|auth|cookie|(?:.*[-_])?(?:api[-_]?key|(?:secret|private|access|signing)[-_]key"
    r"|(?:access|api|auth|bearer|hf|hub|id|refresh|session|user)[-_]token|secret|password|passwd|passphrase"
    r"|credentials?|authorization|bearer|set[-_]cookie))$",
    re.IGNORECASE,
)
# Names of environment variables that hold one: there, no other tokens are to be expected.
VARIABLE = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE)
FORMS = re.compile(  # of keys of known services, which have digits, and of signed tokens (JWT)
    r"(?<![A-Za-z0-9])(?:(?:sk|hf|rk|gsk|csk|xai|nvapi|glpat|pplx|gh[oprsu]|github_pat|xox[abeoprs]|npm|r8|fw|tgp_v1|lsv2|wandb_v1)[-_](?=\S*\d)[A-Za-z0-9_-]{16,}"
    r"|AIza[A-Za-z0-9_-]{30,}|A[KS]IA[A-Z0-9]{16}|ya29\.[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
_HIDDEN = (  # before the @ of an address, or after a name
    re.compile(r"(?<=://)[^/\s'\"@]+(?=@)"),
    re.compile(
        r"(?i)((?:(?:api|secret|private|access|signing)[-_]?key|(?:access|api|auth|bearer|hf|hub|id|refresh|session|user)"
        r"[-_]token|secret|password|passwd|passphrase|credentials?|authorization|cookie|[?&](?:key|token|auth))"
        r"['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?)[^\s'\"&,}*]+"
    ),
    re.compile(r"(?i)\b(bearer\s+)[^\s'\",}*]+"),
)


def redacted(text: str) -> str:
    """A text without keys: those of the environment, in any form that a URL or JSON gives them, and what is named as a
    key or has the form of one."""
    for key in keys_of_environment():
        text = without(text, key)
    for pattern in _HIDDEN:
        text = pattern.sub(lambda found: f"{found[1] if found.lastindex else ''}***", text)
    return FORMS.sub("***", text)


def keys_of_environment() -> Iterator[str]:
    """The values of the variables that are named as a key is."""
    for name, value in os.environ.items():
        if len(value.strip()) >= SHORTEST and VARIABLE.search(name):
            yield value.strip()


def without(text: str, key: str) -> str:
    """A text without a key, also where it stands in a URL or in JSON."""
    for form in {key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1]}:
        text = text.replace(form, "***")
    return text


class RedactingFormatter(logging.Formatter):
    """Formats records of a log without keys, those of tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
