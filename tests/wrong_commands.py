"""What commands refuse before they start work, without a process for each."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from conftest import compose_quickly

from micota.cli import app
from micota.cli.arguments import read
from micota.cli.composing import composing
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call
from micota.errors import shown


def refusal(line: str, check: Callable[[object], None] | None = None) -> str:
    """The line that a command prints as an error before it starts work; empty where it is accepted.

    Args:
        line: as typed after ``micota``, quoted for a shell.
        check: what the command checks of its config besides, as the models of a plan.

    Raises:
        Exception: any that is no user error, with which the command would show a traceback.
    """
    command, *words = shlex.split(line)
    call = Call()
    try:
        call, arguments = read(words, as_script=False)
        overrides = [word for word in arguments if not word.startswith("--")]
        with composing(None):
            config = app.prepare(compose_quickly(command, overrides), SCHEMAS[command], call)
            if check is not None:
                check(config)
    except Exception as error:
        if not is_users(error):
            raise
        return shown(one_line(error, SCHEMAS[command], call))
    return ""
