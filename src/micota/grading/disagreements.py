"""A Markdown page of the completions on which graders differ."""

from __future__ import annotations

from collections.abc import Sequence

from micota.artifacts.jsonl import visible
from micota.records import Completion, Problem, Verdict

TAIL_CHARS = 400  # of a completion in the file of disagreements


def disagreements(
    rows: Sequence[Completion], verdicts: Sequence[dict[str, Verdict]], problems: dict[str, Problem]
) -> str:
    """A page of Markdown with every completion that one grader calls right and another does not."""
    disputed = [
        (row, by)
        for row, by in zip(rows, verdicts, strict=True)
        if len({verdict.correct is True for verdict in by.values()}) > 1
    ]
    parts = [f"# Disagreements between graders: {len(disputed)} of {len(rows)} completions\n"]
    for row, by in disputed:
        problem = problems[row.problem_id]
        lines = [
            f"## {visible(row.problem_id)}, sample {row.sample}\n",
            f"gold: {_cell(problem.answer)} ({problem.answer_type})\n",
        ]
        lines += ["| grader | verdict | extracted answer | reason |", "|---|---|---|---|"]
        words = {True: "right", False: "wrong", None: "cannot tell"}
        for name, verdict in by.items():
            seen = _cell(verdict.prediction) if verdict.prediction is not None else ""
            lines.append(f"| {name} | {words[verdict.correct]} | {seen} | {visible(verdict.reason)} |")
        lines += ["\n<details><summary>problem and end of the completion</summary>\n"]
        lines += _quoted(problem.problem), "\n…\n", _quoted(row.completion[-TAIL_CHARS:]), "\n</details>\n"
        parts.append("\n".join(lines))
    return "\n".join(parts)


def _cell(text: str, limit: int = 120) -> str:
    """Text of a model in one cell of a Markdown table."""
    text = visible(text)
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "`" + " ".join(short.split()).replace("|", "\\|").replace("`", "'") + "`"


def _quoted(text: str) -> str:
    return "\n".join("    " + line for line in visible(text).splitlines())
