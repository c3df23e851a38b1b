"""A process that compares answers symbolically, for ``pool.Workers``: one JSON line in, one JSON line out.

It limits its memory and keeps other output off the pipe (libraries may print). It exits once memory has run out: the
state of a process after a failed allocation is unknown.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from typing import Any

from micota.grading import symbolic
from micota.grading.equality.compare import compare
from micota.grading.gold import Gold, GoldError, Hints, gold_of
from micota.processes import end_with_starter

RECURSION_LIMIT = 2_000
GRACE_S = 5.0  # in which the parent, which counts the time of the clock, ends a worker first


def main() -> None:
    """Serve until the pipe closes; ``argv[1]`` is the memory limit in bytes, ``argv[2]`` that of one answer in seconds.

    It ends with its parent. Where the kernel does not see to that, the limit of CPU time does.
    """
    end_with_starter(signal.SIGKILL)
    limit, seconds = int(sys.argv[1]), float(sys.argv[2])
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    symbolic.warm_up()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(RECURSION_LIMIT)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in requests:
        _limit_cpu(seconds + GRACE_S)
        reply, is_healthy = answer(json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)
        if not is_healthy:
            return


def _limit_cpu(seconds: float) -> None:
    """Let the kernel end this process after so many more seconds of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft, hard = math.ceil(used.ru_utime + used.ru_stime + seconds), resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The verdict on one request, and whether this process may take another."""
    try:
        if "prediction" not in request:
            return {"verdict": readable(request)}, True
        verdict = compare(_gold(request), request["prediction"], symbolic.equivalent)
        return {"verdict": verdict, "reason": "not mathematics" if verdict is None else "symbolic"}, True
    except MemoryError:
        return {"verdict": None, "reason": "memory limit"}, False
    except RecursionError:
        return {"verdict": None, "reason": "nested too deep"}, True
    except Exception as error:  # a parser may fail in any way on hostile text; that costs one answer
        return {"verdict": None, "reason": f"comparison failed ({type(error).__name__})"}, True


def readable(request: dict[str, Any]) -> bool:
    """Whether each part of a gold can be read as mathematics, so that an equal prediction can be recognised."""
    try:
        gold = _gold(request)
    except GoldError:
        return False
    return gold.kind == "text" or gold.node is not None or symbolic.is_readable(gold.text)


def _gold(request: dict[str, Any]) -> Gold:
    wants_factors, things = request.get("hints", (None, ()))
    return gold_of(**request["gold"], hints=Hints(wants_factors, frozenset(things)))


if __name__ == "__main__":
    main()
