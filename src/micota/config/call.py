"""How the present command was started, so that all commands that it prints or starts are started alike."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Call:
    """The command line of the present command, and how such commands are written.

    ``as_script`` is true where a script of the checkout was started (``python train.py``), and false for the console
    script (``micota train``). ``flags`` are those of Hydra that lead to other configs, as ``--config-dir``, with
    absolute paths; ``overrides`` are the ``KEY=VALUE`` words.
    """

    as_script: bool = False
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    def words(self, command: str, overrides: list[str]) -> list[str]:
        """A command as the words of a shell; ``shlex.join`` makes them a line that can be pasted."""
        program = ["python", f"{command}.py"] if self.as_script else ["micota", command]
        return [*program, *self.flags, *overrides]
