"""The progress of generation: a bar, lines in the log, and metrics of the tracker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from micota.config import Config, QuestionsConfig
from micota.console import progress_bar
from micota.data.filters import Filters
from micota.data.sources import load_problems
from micota.grading.graders import cheap_verdict, extraction, submission
from micota.graph import questions, select_of
from micota.records import Completion, Problem, Verdict
from micota.runtime.work import Work

REPORT_EVERY_S = 10.0
logger = logging.getLogger(__name__)


class Tally:
    """How many completions are accepted so far, by the fast grading rules alone: those of training data that pass the
    filters, those of a benchmark that are correct."""

    def __init__(self, golds: dict[str, Problem], filters: Filters | None) -> None:
        self.golds = golds
        self.filters = filters
        self.num_accepted = self.num_judged = 0

    def add(self, row: Completion) -> None:
        if row.problem_id not in self.golds:
            return
        verdict: Verdict | None = cheap_verdict(self.golds[row.problem_id], extraction(submission(row, self.golds)))
        if verdict is None:
            return
        self.num_judged += 1
        kept = self.filters is None or self.filters.reason_to_drop(row, verdict) is None
        self.num_accepted += kept and (self.filters is not None or verdict.correct is True)

    @property
    def rate(self) -> float | None:
        """The accepted share of the graded completions; None before the first of them."""
        return self.num_accepted / self.num_judged if self.num_judged else None


class GenerationProgress:
    """Counts completions as they finish. ``show`` gets a line after each; ``report`` gets the state every
    ``REPORT_EVERY_S`` seconds."""

    def __init__(
        self,
        total: int,
        resumed: Iterable[Completion],
        tally: Tally,
        show: Callable[[str], None],
        report: Callable[[dict[str, float]], None],
    ) -> None:
        self.total = total
        self.lengths: list[int] = []
        self._tally, self._show, self._report = tally, show, report
        for row in resumed:
            self.lengths.append(row.num_tokens)
            tally.add(row)
        self._num_resumed, self._resumed_tokens = len(self.lengths), sum(self.lengths)
        self._num_tokens = self._resumed_tokens
        self._began = self._reported = time.perf_counter()

    def add(self, row: Completion) -> None:
        """Count a completion that has just finished."""
        self.lengths.append(row.num_tokens)
        self._num_tokens += row.num_tokens
        self._tally.add(row)
        self._show(str(self))
        now = time.perf_counter()
        if now - self._reported >= REPORT_EVERY_S or len(self.lengths) == self.total:
            self._reported = now
            self._report(self.state())

    def state(self) -> dict[str, float]:
        """Completions done, mean tokens, tokens per second, seconds left at this rate, and the accepted share. Rates
        count this run alone."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        num_new = len(self.lengths) - self._num_resumed
        state = {"done": float(len(self.lengths)), "mean_tokens": self.mean_tokens}
        if num_new:
            state["tokens_per_s"] = (self._num_tokens - self._resumed_tokens) / seconds
            state["eta_s"] = seconds / num_new * (self.total - len(self.lengths))
        if self._tally.rate is not None:
            state["accept_rate"] = self._tally.rate
        return state

    @property
    def mean_tokens(self) -> float:
        return self._num_tokens / max(1, len(self.lengths))

    def __str__(self) -> str:
        state = self.state()
        parts = [f"{self.mean_tokens:.0f} tokens each"]
        if "eta_s" in state:
            parts += [f"{state['tokens_per_s']:.0f} tokens/s", f"{timedelta(seconds=round(state['eta_s']))} left"]
        if "accept_rate" in state:
            parts.append(f"{state['accept_rate']:.0%} accepted")
        return ", ".join(parts)

    def metrics(self) -> dict[str, float]:
        """The metrics for the manifest."""
        state = self.state()
        return {"num_tokens": self.mean_tokens} | {k: state[k] for k in ("tokens_per_s",) if k in state}


@contextmanager
def show_progress(work: Work[Any], total: int, resumed: Iterable[Completion]) -> Iterator[GenerationProgress]:
    """Show the progress of ``total`` completions, of which ``resumed`` exist. The tracker gets the state at each
    report, and at the end histograms of lengths (tokens) and of speeds (tokens per second)."""
    is_data = work.node.command == "generate"
    filters = Filters(select_of(work.config.select, work.config.data)) if is_data else None
    tally = Tally(golds_of(work.config, work.node.spec.questions), filters)
    prefix = f"generate/{work.node.name}"
    speeds = []

    def report(state: dict[str, float]) -> None:
        speeds.append(state["tokens_per_s"])
        logger.info("%d of %d: %s", state["done"], total, progress)
        work.run.log({f"{prefix}/{name}": value for name, value in state.items()})

    with progress_bar(work.console, work.build.path) as bar:
        task = bar.add_task(work.node.name, total=total, note="")
        progress = GenerationProgress(
            total, resumed, tally, lambda note: bar.update(task, advance=1, note=note), report
        )
        bar.update(task, completed=len(progress.lengths))
        yield progress
    work.run.histogram(f"{prefix}/lengths", progress.lengths)
    if speeds:
        work.run.histogram(f"{prefix}/speeds", speeds)


def golds_of(config: Config, prompted: QuestionsConfig) -> dict[str, Problem]:
    """The problems with golds of the source in the config that has the questions ``prompted``, by id; empty without
    one."""
    sources = [config.problems, *config.bench.values()]
    source = next((source for source in sources if questions(source) == prompted), None)
    return {problem.id: problem for problem in load_problems(source)} if source else {}
