"""How generation goes, for people who watch: a bar, lines in the log, and the tracker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from micota.config import Config, QuestionsConfig
from micota.console import progress_bar
from micota.data.filters import Filters
from micota.data.sources import load_problems
from micota.grading.graders import cheap_verdict, prediction, submission
from micota.graph import questions
from micota.records import Completion, Problem, Verdict
from micota.runtime.work import Work

REPORT_EVERY_S = 10.0
logger = logging.getLogger(__name__)


class Tally:
    """How many answers are accepted so far, as far as the cheap rules tell: of data those that pass the filters, of a
    benchmark those that are right."""

    def __init__(self, golds: dict[str, Problem], filters: Filters | None) -> None:
        self.golds = golds
        self.filters = filters
        self.num_accepted = self.num_judged = 0

    def add(self, row: Completion) -> None:
        if row.problem_id not in self.golds:
            return
        verdict: Verdict | None = cheap_verdict(self.golds[row.problem_id], prediction(submission(row, self.golds)))
        if verdict is None:
            return
        self.num_judged += 1
        kept = self.filters is None or self.filters.reason_to_drop(row, verdict) is None
        self.num_accepted += kept and (self.filters is not None or verdict.correct is True)

    @property
    def rate(self) -> float | None:
        """The share of those accepted, null before any could be judged."""
        return self.num_accepted / self.num_judged if self.num_judged else None


class Watcher:
    """Counts completions as they come in; ``show`` gets a line at each, ``report`` the state now and then."""

    def __init__(
        self,
        total: int,
        resumed: Sequence[Completion],
        tally: Tally,
        show: Callable[[str], None],
        report: Callable[[dict[str, float]], None],
    ) -> None:
        self.total = total
        self.lengths = [row.num_tokens for row in resumed]
        self._num_resumed, self._resumed_tokens = len(resumed), sum(self.lengths)
        self._tally, self._show, self._report = tally, show, report
        for row in resumed:
            tally.add(row)
        self._began = self._reported = time.perf_counter()

    def add(self, row: Completion) -> None:
        """Count a completion that has just come in."""
        self.lengths.append(row.num_tokens)
        self._tally.add(row)
        self._show(str(self))
        now = time.perf_counter()
        if now - self._reported >= REPORT_EVERY_S or len(self.lengths) == self.total:
            self._reported = now
            self._report(self.state())

    def state(self) -> dict[str, float]:
        """Done, tokens per second, seconds left at this rate, and the share accepted; rates are those of this run."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        num_new = len(self.lengths) - self._num_resumed
        found = {"done": float(len(self.lengths)), "mean_tokens": self.mean_tokens}
        if num_new:
            found["tokens_per_s"] = (sum(self.lengths) - self._resumed_tokens) / seconds
            found["eta_s"] = seconds / num_new * (self.total - len(self.lengths))
        if self._tally.rate is not None:
            found["accept_rate"] = self._tally.rate
        return found

    @property
    def mean_tokens(self) -> float:
        return sum(self.lengths) / max(1, len(self.lengths))

    def __str__(self) -> str:
        state = self.state()
        parts = [f"{self.mean_tokens:.0f} tokens each"]
        if "eta_s" in state:
            parts += [f"{state['tokens_per_s']:.0f} tokens/s", f"{timedelta(seconds=round(state['eta_s']))} left"]
        if "accept_rate" in state:
            parts.append(f"{state['accept_rate']:.0%} accepted")
        return ", ".join(parts)

    def metrics(self) -> dict[str, float]:
        """What the manifest keeps."""
        state = self.state()
        return {"num_tokens": self.mean_tokens} | {k: state[k] for k in ("tokens_per_s",) if k in state}


@contextmanager
def watch(work: Work[Any], total: int, resumed: Sequence[Completion]) -> Iterator[Watcher]:
    """Show how ``total`` completions come in, of which ``resumed`` were there already. The tracker gets the state as it
    changes, and at the end histograms of lengths and of the tokens per second between two reports."""
    is_data = work.node.command == "generate"
    tally = Tally(golds_of(work.config, work.node.spec.questions), Filters(work.config.select) if is_data else None)
    prefix = f"generate/{work.node.name}"
    speeds = []

    def report(state: dict[str, float]) -> None:
        speeds.append(state["tokens_per_s"])
        logger.info("%d of %d: %s", state["done"], total, watcher)
        work.run.log({f"{prefix}/{name}": value for name, value in state.items()})

    with progress_bar(work.console, work.build.path) as bar:
        task = bar.add_task(work.node.name, total=total, completed=len(resumed), note="")
        watcher = Watcher(total, resumed, tally, lambda note: bar.update(task, advance=1, note=note), report)
        yield watcher
    work.run.histogram(f"{prefix}/lengths", watcher.lengths)
    if speeds:
        work.run.histogram(f"{prefix}/speeds", speeds)


def golds_of(config: Config, asked: QuestionsConfig) -> dict[str, Problem]:
    """The problems behind questions, with their golds, by id: those of the config's source that asks the same."""
    sources = [config.problems, *config.bench.values()]
    found = next((source for source in sources if questions(source) == asked), None)
    return {problem.id: problem for problem in load_problems(found)} if found else {}
