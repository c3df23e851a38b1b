"""Kills of processes of a run, and what becomes of it."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fork_server import Command
from hurt_runs import EVERY_STAGE, left_behind, results, start

from micota.artifacts.store import PARTIAL
from micota.errors import USER_ERROR

PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)


def is_waited_for(lock: Path) -> bool:
    """Whether a process waits for the lock of a file, as the kernel's list of locks has it."""
    inode = f":{lock.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def kind_of(process: psutil.Process, command: int) -> str:
    """What a process of a run is: the command itself, a command of its own, a rank, a worker or a tracker."""
    with suppress(psutil.Error):
        words = " ".join(process.cmdline())
        kinds = {
            "wandb-core": "tracker",
            "-m micota.": "rank",
            "-m micota ": "child",
        }
        return "command" if process.pid == command else next((kinds[of] for of in kinds if of in words), "worker")
    return "gone"


class Processes:
    """The processes that begin while it is open, which the kernel gives to this process when their parents end."""

    def __enter__(self) -> Processes:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._before = set(psutil.Process().children(recursive=True))
        return self

    def __exit__(self, *_: object) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)

    def alive(self) -> list[psutil.Process]:
        found = []
        for process in set(psutil.Process().children(recursive=True)) - self._before:
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
                elif process.ppid() == os.getpid():
                    os.waitpid(process.pid, os.WNOHANG)
        return sorted(found, key=lambda process: process.pid)

    def orphans(self, patience: float = 60.0) -> list[str]:
        """What is still alive after some seconds; it is killed."""
        deadline = time.monotonic() + patience
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.02)  # until they have noticed
        lines = []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                lines.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
                process.kill()
        return lines


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A way to run the experiment, and the kinds of processes that are killed in it; ``all`` kills every one."""

    words: Sequence[str]
    victims: Sequence[str]


IN_PROCESS = Setting(words=["runner=inprocess"], victims=["command"])
WORKERS = Setting(words=["runner=workers", "jobs=2"], victims=["command", "worker", "all"])
SUBPROCESS = Setting(words=["runner=subprocess", "jobs=2"], victims=["command", "child", "all"])
TRACKED = Setting(words=["tracker=wandb", "tracker.mode=offline"], victims=["command", "tracker", "all"])
RANKS = Setting(words=["trainer.devices=2"], victims=["command", "rank", "all"])  # sums of gradients in another order
SURVIVED = ("tracker",)  # the work goes on without them


@dataclass
class Tally:
    """What became of the runs whose processes were killed."""

    kills: Counter[str] = field(default_factory=Counter)  # by kind of process
    stages: Counter[str] = field(default_factory=Counter)  # by kind of artifact that was being made
    resumed: int = 0
    differing: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    wrong_ends: list[str] = field(default_factory=list)  # of commands that said something else, or nothing

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.kills.items()))
        stages = ", ".join(f"{kind} {number}" for kind, number in sorted(self.stages.items()))
        return (
            f"{self.kills.total()} kills ({kinds}), {self.resumed} runs resumed, {len(self.differing)} artifacts "
            f"differing, {len(self.orphans)} orphans, {len(self.left_behind)} files left behind, "
            f"{len(self.wrong_ends)} wrong ends; kills while it made: {stages}"
        )

    def check(self) -> None:
        assert not [*self.differing, *self.orphans, *self.left_behind, *self.wrong_ends], "\n".join(
            [str(self), *self.differing, *self.orphans, *self.left_behind, *self.wrong_ends]
        )

    def compare(self, artifacts: Path, expected: Mapping[str, Any]) -> None:
        """Compare what was made in the end with the results of an undisturbed run."""
        made = results(artifacts)
        self.differing += [name for name in made.keys() | expected.keys() if made.get(name) != expected.get(name)]
        self.left_behind += left_behind(artifacts)


def killed_at_random(
    settings: Sequence[Setting],
    num_kills: int,
    folder: Path,
    expected: Mapping[str, Any],
    seconds: float,
    dice: random.Random,
) -> Tally:
    """Kill runs at random moments and let them go on, in the one setting or another, until there were so many kills.

    Args:
        expected: the results of an undisturbed run.
        seconds: the longest time until a kill.
    """
    tally = Tally()
    while tally.kills.total() < num_kills:
        artifacts = folder / f"{tally.kills.total()}" / "artifacts"
        artifacts.parent.mkdir(parents=True)
        is_done = False
        while not is_done:
            setting = dice.choice(settings)
            victim = dice.choice(setting.victims) if tally.kills.total() < num_kills else ""
            moment = time.monotonic() + dice.uniform(0, seconds)
            is_done = kill_once(setting, artifacts, tally, victim, lambda at=moment: time.monotonic() >= at, dice)
        tally.compare(artifacts, expected)
        shutil.rmtree(artifacts.parent)
    return tally


def kill_once(
    setting: Setting, artifacts: Path, tally: Tally, victim: str, when: Callable[[], bool], dice: random.Random
) -> bool:
    """Run the experiment and kill a process of the kind ``victim`` at the first moment at which there is one and
    ``when`` is true. Whether the run came to its end."""
    with Processes() as processes, start([*EVERY_STAGE, *setting.words], artifacts) as command:
        hit = False
        while victim and not hit and command.poll() is None:
            time.sleep(0.002)  # polls for the moment to kill at
            if when():
                making = {path.parent.name for path in artifacts.glob(f"*/*{PARTIAL}")} or {"nothing"}
                hit = _kill(processes.alive(), command, victim, dice)
        if hit:
            tally.kills[victim] += 1
            tally.stages.update(making)
        _, errors = command.communicate(timeout=900)
        tally.orphans += processes.orphans()
    is_done = command.returncode == 0
    if not is_done and not (hit and _ends_well(command, errors, victim)):
        tally.wrong_ends.append(f"{' '.join(setting.words)}, {victim}: {command.returncode} {errors[-2000:]}")
        assert hit, errors
    tally.resumed += hit and not is_done
    return is_done


def _ends_well(command: Command, errors: str, victim: str) -> bool:
    """Whether a command whose process was killed was killed itself, or says so on one line."""
    if victim in ("command", "all"):
        return command.returncode == -signal.SIGKILL
    says_so = errors.count("\n") == 1 and "killed by signal 9" in errors
    return command.returncode == USER_ERROR and says_so and victim not in SURVIVED


def _kill(alive: Sequence[psutil.Process], command: Command, victim: str, dice: random.Random) -> bool:
    if not any(process.pid == command.pid for process in alive):
        return False  # it has ended
    doomed = [process for process in alive if victim in ("all", kind_of(process, command.pid))]
    if victim != "all":
        doomed = doomed and [dice.choice(doomed)]
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(doomed)
