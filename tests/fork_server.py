"""Commands in processes of their own, started in milliseconds.

A command as a user starts it spends 5 to 8 seconds on imports before it does anything. Here a server imports once and
each command is a fork of it: with its own arguments, environment, folder, output, signals and exit code, and with
nothing left behind in the process of the tests. What a fork cannot show, how long a start takes and what is imported,
has tests of its own (test_architecture.py).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from micota.processes import STARTER

ROOT = Path(__file__).resolve().parents[1]
PRELOAD = [
    *(f"micota.stages.{path.stem}" for path in sorted((ROOT / "src" / "micota" / "stages").glob("[a-z]*.py"))),
    "micota.cli.app", "micota.runtime.runners", "micota.engines.hf", "micota.report.page", "lightning", "peft",
    "plotly.graph_objects", "transformers.models.qwen2.modeling_qwen2", "wandb",
]  # fmt: skip
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",  # read once, at the import: else a model that is not there costs 40 s of attempts to connect
}  # fmt: skip


def _server() -> tuple[ForkServerContext, str]:
    """How to start a fork of the server, which is started first if it does not run, and its address."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with patch.dict(os.environ, QUIET | {"OMP_NUM_THREADS": "1"}):  # read by the server's imports
        forkserver.ensure_running()
    return context, forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]


def _started(*how: Any) -> Any:
    """A fork of the server that runs ``_run`` with these arguments and the server's address."""
    try:
        return _forked(*how)
    except (EOFError, ConnectionError):
        # A command that is killed while it asks the server for a worker ends the server (CPython's main loop does not
        # expect half a message).
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        return _forked(*how)


def _forked(*how: Any) -> Any:
    context, server = _server()
    process = context.Process(target=_run, args=(*how, server))
    process.start()
    assert process.pid is not None
    return process


class Command:
    """A command that runs, with the part of ``subprocess.Popen`` that tests use.

    ``max_file_bytes`` lets the kernel refuse longer files, which is what a full disk looks like to whoever writes.
    ``umask`` is that of the command.
    """

    def __init__(
        self,
        script: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        max_file_bytes: int | None = None,
        umask: int = 0o022,
    ) -> None:
        self._outputs = [tempfile.NamedTemporaryFile("r", encoding="utf-8") for _ in range(2)]
        names = [output.name for output in self._outputs]
        where = str(cwd or Path.cwd())
        self._process = _started(script, list(arguments), dict(env), where, names, max_file_bytes, umask)
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for the end; what was printed, and what was printed as errors."""
        self._process.join(timeout)
        assert self.returncode is not None, f"{timeout:g} s were not enough"
        stdout, stderr = (output.read() for output in self._outputs)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill_group(self) -> None:
        """With all that it started."""
        os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.kill()
            self._process.join()
        for output in self._outputs:
            output.close()


def run(script: str, arguments: Sequence[str], env: Mapping[str, str], **how: Any) -> subprocess.CompletedProcess[str]:
    """A command from its start to its end."""
    with Command(script, arguments, env, **how) as command:
        stdout, stderr = command.communicate()
        assert command.returncode is not None
        return subprocess.CompletedProcess([script, *arguments], command.returncode, stdout, stderr)


class Rank:
    """A process of ``python -m MODULE ...`` with the part of ``subprocess.Popen`` that micota.runtime.launch uses."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], stdout: int, stderr: Any, **_: Any) -> None:
        _, _, module, *arguments = words
        folder = tempfile.mkdtemp()
        output = f"{folder}/stdout" if stdout == subprocess.PIPE else os.devnull
        if stdout == subprocess.PIPE:
            os.mkfifo(output)
        env = {name: value for name, value in env.items() if name != STARTER}  # which is not the parent of a fork
        where = str(Path.cwd())
        self._process = _started(module, arguments, env, where, [output, stderr.name], None, 0o022)
        self.pid: int = self._process.pid
        self.stdout = open(output, encoding="utf-8") if stdout == subprocess.PIPE else None
        self._code: Future[int] = Future()
        threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        self._process.join()
        assert self._process.exitcode is not None
        self._code.set_result(self._process.exitcode)

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._code.result(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired("rank", timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if not self._code.done():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that this process starts need no seconds for imports; those that a command starts are processes as ever."""
    names = {name: getattr(subprocess, name) for name in ("PIPE", "DEVNULL", "TimeoutExpired")}
    monkeypatch.setattr("micota.runtime.launch.subprocess", SimpleNamespace(**names, Popen=Rank))


def _leave_coverage() -> None:
    """Measure no coverage: its data file would grow beyond the limit too, and it would print that."""
    coverage = sys.modules.get("coverage")
    measured = coverage.Coverage.current() if coverage is not None else None
    if measured is not None:
        measured.stop()
        measured._auto_save = False  # it has no public way to drop what it has


def _run(
    script: str,
    arguments: list[str],
    env: dict[str, str],
    cwd: str,
    outputs: list[str],
    max_file_bytes: int | None,
    umask: int,
    server: str,
) -> None:
    """The command, in the fork. Workers that it starts are forks of the same server."""
    forkserver._forkserver._forkserver_address = server  # type: ignore[attr-defined]
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    os.setsid()
    os.umask(umask)
    for descriptor, name in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    is_module = os.sep not in script
    if is_module:
        sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    else:
        sys.path.insert(0, str(Path(script).parent))
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
        _leave_coverage()
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork leaves without them
