"""A language model as a judge, behind an OpenAI-compatible endpoint. Off by default; one more column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import httpx

from micota.config import JudgeConfig
from micota.endpoint import Endpoint
from micota.endpoint.replies import UNREADABLE
from micota.grading.graders import JUDGE
from micota.records import Problem, Verdict

QUESTION = """Decide whether a student's final answer to a problem is right.

Problem:
{problem}

Reference answer: {answer}
Student's answer: {prediction}

The student's answer is right if it is the same as the reference answer, in whatever form it is written.
Reply with one word: True or False."""
MAX_PREDICTION_CHARS = 1_000


def add_judged(
    verdicts: Sequence[dict[str, Verdict]], problems: Sequence[Problem], judge: JudgeConfig
) -> Iterator[None]:
    """Add the judge's verdict on the answers that ``typed`` extracts to the verdicts of the rules, one per step."""
    rows = [(problem, by["typed"].prediction) for problem, by in zip(problems, verdicts, strict=True)]
    for index, verdict in judged(rows, judge):
        verdicts[index][JUDGE] = verdict
        yield


def judged(rows: Sequence[tuple[Problem, str | None]], judge: JudgeConfig) -> Iterator[tuple[int, Verdict]]:
    """The judge's verdict on each ``(problem, prediction)`` row, with its index, as they come in.

    A row without a prediction is not sent. It has no verdict, as a reply other than True or False has none.

    Raises:
        ConfigError: the endpoint refuses the request or cannot be reached, after ``judge.retries`` retries.
    """
    questions = {}
    for index, (problem, prediction) in enumerate(rows):
        if prediction is None:
            yield index, Verdict(prediction=None, correct=None, reason="no_answer")
        else:
            questions[index] = _question(judge, problem, prediction)
    endpoint = Endpoint(judge, "evaluation.judge")
    for index, reply in endpoint.post_all("/chat/completions", questions, judge.concurrency):
        correct, reason = _verdict(reply)
        yield index, Verdict(prediction=rows[index][1], correct=correct, reason=reason)


def _question(judge: JudgeConfig, problem: Problem, prediction: str) -> dict[str, object]:
    texts = {"problem": problem.problem, "answer": problem.answer, "prediction": prediction[:MAX_PREDICTION_CHARS]}
    # At once: a problem may have {answer} in it.
    question = re.sub(r"\{(problem|answer|prediction)\}", lambda mark: texts[mark[1]], QUESTION)
    return {
        "model": judge.model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": judge.max_tokens,
    }


def _verdict(reply: httpx.Response) -> tuple[bool | None, str]:
    try:
        text = str(reply.json()["choices"][0]["message"]["content"])
    except UNREADABLE:
        return None, "ungradable: the judge's reply has no text"
    word = text.strip().strip("*\"'.").split()[:1]
    verdict = {"true": True, "false": False}.get(word[0].strip("*\"'.,:;").lower()) if word else None
    return verdict, JUDGE if verdict is not None else f"ungradable: the judge says {text[:40]!r}"
