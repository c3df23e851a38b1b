"""``python -m micota COMMAND ...``, the same as ``micota COMMAND ...``."""

from __future__ import annotations

from collections.abc import Sequence

from micota.processes import leaving_at_interrupts, note_sigterm


def main(words: Sequence[str] | None = None, *, as_script: bool = False) -> None:
    """Run a command as ``micota.cli.app.main`` does, whose imports take seconds in which a user may interrupt it."""
    note_sigterm()
    with leaving_at_interrupts():
        from micota.cli import app
    app.main(words, as_script=as_script)


if __name__ == "__main__":
    main()
