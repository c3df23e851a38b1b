"""A language model as a judge, behind an OpenAI-compatible endpoint. Off by default; a column of its own."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx

from micota.config import ConfigError, JudgeConfig
from micota.records import Problem, Verdict

QUESTION = """Decide whether a student's final answer to a problem is right.

Problem:
{problem}

Reference answer: {answer}
Student's answer: {prediction}

The student's answer is right if it is the same as the reference answer, in whatever form it is written.
Reply with one word: True or False."""
MAX_PREDICTION_CHARS = 1_000
AGAIN = (408, 409, 429, 500, 502, 503, 504, 529)
LONGEST_WAIT_S = 30.0


def judged(rows: Sequence[tuple[Problem, str | None]], judge: JudgeConfig) -> Iterator[tuple[int, Verdict]]:
    """The judge's verdict on each ``(problem, prediction)`` row, with its index, as they come in.

    What it was not asked (no prediction) or did not answer with True or False has no verdict.

    Raises:
        ConfigError: the endpoint refuses the request or cannot be reached, after ``judge.retries`` retries.
    """
    key = os.environ.get(judge.key_variable)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=judge.concurrency)
    client = httpx.Client(base_url=judge.url.rstrip("/"), headers=headers, timeout=judge.timeout_s, limits=limits)
    with client, ThreadPoolExecutor(judge.concurrency) as threads:
        asked = {}
        for index, (problem, prediction) in enumerate(rows):
            if prediction is None:
                yield index, Verdict(prediction=None, correct=None, reason="no_answer")
            else:
                asked[threads.submit(_ask, client, judge, problem, prediction)] = index, prediction
        try:
            for future in as_completed(asked):
                index, prediction = asked[future]
                correct, reason = future.result()
                yield index, Verdict(prediction=prediction, correct=correct, reason=reason)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _ask(client: httpx.Client, judge: JudgeConfig, problem: Problem, prediction: str) -> tuple[bool | None, str]:
    question = QUESTION
    replacements = {"{problem}": problem.problem, "{answer}": problem.answer}
    for mark, text in (replacements | {"{prediction}": prediction[:MAX_PREDICTION_CHARS]}).items():
        question = question.replace(mark, text, 1)
    body = {
        "model": judge.model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": judge.max_tokens,
    }
    reply = _post(client, judge, body)
    try:
        text = str(reply.json()["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None, "ungradable: the judge's reply has no text"
    word = text.strip().strip("*\"'.").split()[:1]
    verdict = {"true": True, "false": False}.get(word[0].strip("*\"'.,:;").lower()) if word else None
    return verdict, "judge" if verdict is not None else f"ungradable: the judge says {text[:40]!r}"


def _post(client: httpx.Client, judge: JudgeConfig, body: dict[str, object]) -> httpx.Response:
    """One request, again after a while where the endpoint is busy or out of reach."""
    problem = ""
    for attempt in range(judge.retries + 1):
        if attempt:
            time.sleep(min(LONGEST_WAIT_S, 0.5 * 2**attempt) * random.uniform(0.5, 1.0))
        try:
            reply = client.post("/chat/completions", json=body)
        except httpx.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        if reply.is_success:
            return reply
        problem = f"HTTP {reply.status_code}: {reply.text[:200]}"
        if reply.status_code not in AGAIN:
            break
    raise ConfigError(f"evaluation.judge.url={judge.url!r}: no answer from model {judge.model!r} ({problem})")
