"""Processes end with those that started them, and at signals with a line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from micota import processes

STAGE = """
import os, signal
from micota.processes import STARTER, end_with_starter
signal.signal(signal.SIGTERM, lambda *_: (print("SIGTERM", flush=True), os._exit(0)))
end_with_starter(signal.SIGTERM)
print(os.environ.get(STARTER), flush=True)
signal.pause()
"""
PIPELINE = f"""
import subprocess, sys
from micota.processes import started_by_this_process
subprocess.run([sys.executable, "-c", {STAGE!r}], env=started_by_this_process())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_it_is_asked_to_stop_when_the_pipeline_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PIPELINE], stdout=subprocess.PIPE, text=True) as pipeline:
        assert pipeline.stdout is not None
        assert pipeline.stdout.readline() == "None\n", "what a stage starts must not follow the pipeline"
        pipeline.kill()
        assert pipeline.stdout.read() == "SIGTERM\n"  # ends when the stage has closed the pipe, too


def test_it_does_not_begin_where_the_pipeline_has_ended_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda name: SimpleNamespace(prctl=lambda *_: 0))  # for these tests
    monkeypatch.setenv(processes.STARTER, str(os.getppid()))
    processes.end_with_starter(signal.SIGTERM)
    monkeypatch.setenv(processes.STARTER, "1" if os.getppid() != 1 else "2")
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        processes.end_with_starter(signal.SIGTERM)


def test_sigterm_ends_a_command_with_a_line() -> None:
    code = "import signal; from micota.processes import note_sigterm; note_sigterm(); print(flush=True); signal.pause()"
    # The measurement of coverage handles SIGTERM by itself.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bare
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert printed == b"stopped by SIGTERM; the same command goes on from here\n"


SLOW_IMPORT = """
import sys
from micota.processes import leaving_at_interrupts
with leaving_at_interrupts():
    try:
        print("begun", flush=True)
        sys.stdin.read()
    except BaseException as error:
        raise ImportError("a module half imported") from error
"""


def interrupted(code: str, **how: object) -> subprocess.CompletedProcess[str]:
    """A process that gets Ctrl-C when it has printed its first line."""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, text=True, **how) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, printed, errors)


def test_an_interrupt_within_imports_is_one_line() -> None:
    finished = interrupted(SLOW_IMPORT)
    assert (finished.returncode, finished.stderr) == (130, f"{processes.INTERRUPTED}\n")


def test_who_ignores_interrupts_goes_on(tmp_path: Path) -> None:
    finished = interrupted(f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN){SLOW_IMPORT}")
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("command", ["artifacts", "pipeline"])
def test_an_interrupt_within_any_command_is_one_line(command: str) -> None:
    """Also within the tools, and while a command reads its config."""
    code = f"""
import sys
from micota.cli import app
def wait(*_, **__):
    print("begun", flush=True)
    sys.stdin.read()
app.function = app.arguments = wait
app.main(["{command}"])
"""
    finished = interrupted(code)
    assert (finished.returncode, finished.stderr) == (130, f"{processes.INTERRUPTED}\n")


def test_a_second_interrupt_as_it_ends_leaves_at_once() -> None:
    code = """
import sys, threading
from micota.processes import end_at_interrupt
threading.Thread(target=threading.Event().wait).start()  # Python waits for it at its end
sys.stderr = sys.stdout
end_at_interrupt()
"""
    finished = interrupted(code)
    assert (finished.returncode, finished.stderr) == (130, "")
