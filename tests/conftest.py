"""What tests share: composed configs, the commands as a user starts them, and a small experiment."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fork_server
import hydra
import pytest
from fork_server import ROOT
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from micota.cli import app as commands
from micota.cli import quick_hydra
from micota.cli.experiments import cases
from micota.config import ENGINES, FILTERS, GRADERS, MERGE_METHODS, PRUNINGS, SCHEMAS, Call
from micota.config.roles import for_hydra
from micota.grading.graders import Graders
from micota.graph import CaseConfig, RecipeConfig

NEEDS = {"vllm": ["vllm"], "ray": ["vllm", "ray"]}  # packages, by marker
APART = {  # tests that run where -m names them alone, and why
    "slow": "takes minutes", "ray": "takes minutes", "thorough": "does for every case what a fast test does for some",
}  # fmt: skip
# A toy of the toy: every stage runs for real, in seconds.
SMALL = [
    "experiment=tiny",
    "tracker=none",
    "problems.limit=96",
    "select.num_examples=24",
    "select.filters=[finished]",
    "compare.merge_weights=[]",
    "bench=[tiny_easy]",
    "bench.easy.limit=32",
    "ta.sft.epochs=1",
    "student.sft.epochs=1",
    "trainer.checkpoint_every=1",
    "engine.batch_size=32",
]


# torch.compile in this process: else it starts a process for each core of the machine beside every worker of the tests.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def thorough_after(count: int, cases: list[Any]) -> list[Any]:
    """Parameters of a test: the first ``count`` are of the fast tests, and the rest are thorough."""
    rest = [pytest.param(*case if isinstance(case, tuple) else [case], marks=pytest.mark.thorough) for case in cases]
    return [*cases[:count], *rest[count:]]


def case_of(recipes: list[Any]) -> CaseConfig:
    """One case without axes, of configs that differ in ``data`` alone."""
    return CaseConfig(
        config=recipes[0], recipes=[RecipeConfig(name=recipe.data.name, config=recipe) for recipe in recipes]
    )


def obstacle(marker: str, chosen: str) -> str | None:
    """Why tests with this marker are skipped, if ``pytest -m`` has chosen those of ``chosen``."""
    if marker in APART and marker not in chosen:
        return f"{APART[marker]}; run with -m {marker}"
    if marker == "gpu":
        import torch

        return None if torch.cuda.is_available() else "PyTorch sees no GPU here"
    absent = [package for package in NEEDS.get(marker, []) if importlib.util.find_spec(package) is None]
    return f"needs the package {absent[0]}, which is not installed here" if absent else None


# Files that take longest, longest first. They go first, so that two workers end at nearly the same time.
LONGEST = [f"test_{name}.py" for name in (
    "pipeline", "train", "keys", "readme", "experiments", "graph", "configs", "browser", "merge_sweep", "mergekit",
)]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="kills at random moments, in slow tests")
    parser.addoption("--full-disks", type=int, default=10, help="full disks, in slow tests")
    parser.addoption("--signals", type=int, default=10, help="signals at random moments, in slow tests")
    parser.addoption("--kills-seed", type=int, default=0, help="seed of the moments and victims")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    if hasattr(config.option, "loadscopereorder"):
        # Else pytest-xdist puts the files with most tests first, which are not the longest.
        config.option.loadscopereorder = False
        # A run whose worker dies ends there, with the name of the test: pytest-xdist 3.8 starts another worker, hands
        # finished files to it and then waits for ever (its remove_node keeps them in the queue).
        config.option.maxworkerrestart = 0


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported stays: each full collection would walk over it for half a second


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or nextitem.path != item.path:
        gc.collect()  # of the objects of this file alone
        gc.freeze()  # as above: libraries that this file was the first to import


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here, and, unless ``-m`` names them, the tests of ``APART``."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    obstacles: dict[str, str | None] = {}
    for item in items:
        for marker in {mark.name for mark in item.iter_markers()} & {"gpu", *APART, *NEEDS}:
            if marker not in obstacles:
                obstacles[marker] = obstacle(marker, config.option.markexpr)
            if reason := obstacles[marker]:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _same_handlers() -> Iterator[None]:
    """A command that a test interrupts in this process leaves a handler which ends the process at the next Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if handler is not None:  # as of one that is not Python's
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def graders() -> Iterator[Graders]:
    """Graders with one worker process, shared by all tests."""
    with Graders(num_workers=1, seconds=20.0) as opened:
        yield opened


MERGED: dict[tuple[str, ...], dict[Any, DictConfig]] = {}  # of all tests of a process


def compose_quickly(command: str, overrides: list[str]) -> DictConfig:
    """Compose with the groups of micota, and with the merge methods that there are: see ``open_tables``."""
    methods = tuple(ConfigStore.instance().repo["merge"])
    return quick_hydra.compose(command, overrides, MERGED.setdefault(methods, {}))


@pytest.fixture
def composed() -> Iterator[Callable[..., Any]]:
    """``composed("train", "student=qwen1.5b")``: the checked config of a command."""

    def compose(command: str, *overrides: str) -> Any:
        call = Call(overrides=list(overrides))
        return commands.prepare(compose_quickly(command, for_hydra(overrides)), SCHEMAS[command], call)

    with hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        yield compose


@pytest.fixture(scope="session")
def cases_of() -> Callable[[str], list[CaseConfig]]:
    """``cases_of("mix_distillation/mix")``: the cases of an experiment, composed once for all tests, which must not
    change them."""
    known: dict[str, list[CaseConfig]] = {}

    def compose(name: str) -> list[CaseConfig]:
        if name not in known:
            call = Call(overrides=[f"experiment={name}"])
            is_open = GlobalHydra.instance().is_initialized()  # by the fixture composed, in a test with both
            with nullcontext() if is_open else hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
                composed = hydra.compose("pipeline", overrides=call.overrides)
                known[name] = cases(commands.prepare(composed, SCHEMAS["pipeline"], call))
        return known[name]

    return compose


@pytest.fixture
def open_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may add entries to tables; they are gone after it."""
    for table in (ENGINES, FILTERS, GRADERS, MERGE_METHODS, PRUNINGS):
        monkeypatch.setattr(table, "_entries", dict(table))
    options = ConfigStore.instance().repo
    monkeypatch.setitem(options, "merge", dict(options["merge"]))


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start an entry script as a user does, with artifacts in a folder of the test."""

    def run(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        env |= {"MICOTA_ARTIFACTS": str(tmp_path / "artifacts"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment
        return fork_server.run(str(ROOT / f"{command}.py"), arguments, env, cwd=tmp_path)

    return run


@pytest.fixture
def run_tool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start ``micota TOOL WORDS`` as a user does, in a folder of the test."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "MICOTA_ARTIFACTS"}
        return fork_server.run(
            str(ROOT / "src" / "micota" / "__main__.py"), words, env | {"COLUMNS": "200"}, cwd=tmp_path
        )

    return run
