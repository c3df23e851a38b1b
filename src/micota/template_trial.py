"""A trial of a chat template in a process with limits of time and memory.

The sandbox of transformers keeps a template from files and code. It does not keep it from loops within loops, or from
``'x' * 10**10``, which would fill the memory of the process that holds the model. So a template that could is rendered
here first. This file is the program of the child process, too, which imports Jinja and nothing of micota.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS, BYTES = 2, 2**30
TOO_MUCH = 3  # the exit code of a child that needs more memory; the kernel ends one that needs more time
_MAY_GROW = re.compile(r"\*|\b(?:range|macro|recursive|format|set|include|join|indent|replace)\b")
_TURNS = [{"role": role, "content": "What is 2 + 2?"} for role in ("user", "assistant") * 6][:-1]
_LONG = [{"role": "user", "content": "What is 2 + 2? " * 100}]  # of loops over letters, each takes 1,500 times as long


@lru_cache(maxsize=64)
def is_bounded(template: str) -> bool:
    """Whether a template renders short chats within ``SECONDS`` of processor time and ``BYTES`` of memory.

    A template that fails in another way is bounded: its error comes where it is used.
    """
    if not _MAY_GROW.search(template) and len(re.findall(r"\bfor\b", template)) <= 2:
        return True
    child = [sys.executable, "-I", str(Path(__file__).resolve())]
    try:
        code = subprocess.run(
            child, input=json.dumps(template), text=True, capture_output=True, timeout=60, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return False
    return code != TOO_MUCH and code >= 0


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag of transformers around what an assistant generates."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)  # type: ignore[no-any-return]

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": lambda form: form}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    return environment


def main() -> None:
    """Render the template on stdin; exit with ``TOO_MUCH`` where the memory does not suffice."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    try:
        template = _environment().from_string(json.loads(sys.stdin.read()))
        for turns in (_TURNS[:1], _TURNS, _LONG):
            template.render(messages=turns, add_generation_prompt=True, bos_token="<s>", eos_token="</s>", tools=None)
    except (MemoryError, OverflowError):
        sys.exit(TOO_MUCH)
    except Exception:  # a template may fail in any way, which is an error elsewhere
        sys.exit(0)


if __name__ == "__main__":
    main()
