"""Artifacts that cannot be read and that a command can do without: it goes on, and prints what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from micota.artifacts.manifest import MANIFEST, Manifest, read_manifest
from micota.errors import ArtifactError

_printed: set[str] = set()  # a report reads the same artifacts for each of its cases


@contextmanager
def leaving_out(path: Path) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Yield a context for each attempt to read an artifact below ``path``. Attempts that fail are printed in one line,
    on the error stream and once in a process."""
    problems: list[str] = []

    @contextmanager
    def attempt() -> Iterator[None]:
        try:
            yield
        except ArtifactError as error:
            problems.append(str(error))

    yield attempt
    if problems:
        more = f" (and {len(problems) - 1} more below {path})" if len(problems) > 1 else ""
        text = f"left out{more}: {problems[0]}"
        if text not in _printed:
            _printed.add(text)
            Console(stderr=True, soft_wrap=True, highlight=False).print(Text(text, "yellow"))


def each_manifest(root: Path, kind: str) -> Iterator[Manifest]:
    """The manifests of the finished artifacts of one kind below ``root``; what cannot be read is left out."""
    with leaving_out(root / kind) as attempt:
        for path in sorted((root / kind).glob(f"*/{MANIFEST}")):
            if path.parent.suffix == "":  # neither unfinished nor deleted
                with attempt():
                    yield read_manifest(path.parent)
