"""A Markdown page of the completions on which graders differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from micota.records import Completion, Problem, Verdict
from micota.visible import plain_markdown, visible

MAX_SHOWN = 5_000
TAIL_CHARS = 400  # of a completion in the file of disagreements


class Disagreements:
    """A page of Markdown with the completions that one grader calls right and another does not: the first
    ``MAX_SHOWN``, and how many there are."""

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        self._problems = problems
        self._parts: list[str] = []
        self._num_disputed = self._num_rows = 0

    def add(self, rows: Sequence[Completion], verdicts: Sequence[dict[str, Verdict]]) -> None:
        """Add completions with their verdicts."""
        for row, by in zip(rows, verdicts, strict=True):
            self._num_rows += 1
            if len({verdict.correct is True for verdict in by.values()}) < 2:
                continue
            self._num_disputed += 1
            if len(self._parts) < MAX_SHOWN:
                self._parts.append(self._part(row, by))

    def page(self) -> str:
        """The page."""
        title = f"# Disagreements between graders: {self._num_disputed} of {self._num_rows} completions\n"
        is_cut = self._num_disputed > len(self._parts)
        return "\n".join([title, *([f"The first {len(self._parts)} are here.\n"] if is_cut else []), *self._parts])

    def _part(self, row: Completion, by: Mapping[str, Verdict]) -> str:
        problem = self._problems[row.problem_id]
        lines = [
            f"## {plain_markdown(row.problem_id)}, sample {row.sample}\n",
            f"gold: {_cell(problem.answer)} ({problem.answer_type})\n",
        ]
        lines += ["| grader | verdict | extracted answer | reason |", "|---|---|---|---|"]
        words = {True: "right", False: "wrong", None: "cannot tell"}
        for name, verdict in by.items():
            seen = _cell(verdict.prediction) if verdict.prediction is not None else ""
            lines.append(f"| {name} | {words[verdict.correct]} | {seen} | {plain_markdown(verdict.reason)} |")
        lines += ["\n<details><summary>problem and end of the completion</summary>\n"]
        lines += _quoted(problem.problem), "\n…\n", _quoted(row.completion[-TAIL_CHARS:]), "\n</details>\n"
        return "\n".join(lines)


def _cell(text: str, limit: int = 120) -> str:
    """Text of a model in one cell of a Markdown table."""
    text = visible(text)
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + " ".join(short.split()).replace("|", "\\|").replace("`", "'") + "`"


def _quoted(text: str) -> str:
    return "\n".join("    " + line for line in visible(text).splitlines())
