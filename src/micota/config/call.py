"""How the present command was started, so that the commands that it prints or starts have the same form."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.fields import plain
from micota.shell import shell_line


@dataclass(kw_only=True)
class Call:
    """The command line of the present command, and the form of other commands."""

    as_script: bool = plain(
        False,
        about="true: a script of the checkout was started (python train.py); false: the console script (micota train).",
        results=False,
        internal=True,
    )
    flags: list[str] = plain(
        default_factory=list,
        about="The flags of Hydra that lead to other configs, as --config-dir, with absolute paths.",
        results=False,
        internal=True,
    )
    overrides: list[str] = plain(
        default_factory=list, about="The KEY=VALUE words of the command line.", results=False, internal=True
    )

    def words(self, command: str, overrides: list[str]) -> list[str]:
        """A command as the words of a shell."""
        program = ["python", f"{command}.py"] if self.as_script else ["micota", command]
        return [*program, *self.flags, *overrides]

    def line(self, command: str, overrides: list[str]) -> str:
        """A command as a line that can be pasted into a shell."""
        return shell_line(self.words(command, overrides))
