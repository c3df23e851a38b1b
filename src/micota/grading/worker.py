"""A process that compares answers symbolically, for ``pool.Workers``: one JSON line in, one JSON line out.

It limits its memory and keeps other output off the pipe (libraries may print). It exits once memory has run out: the
state of a process after a failed allocation is unknown.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

from micota.grading import symbolic
from micota.grading.equality.compare import compare
from micota.grading.gold import Gold, GoldError, Hints, gold_of

RECURSION_LIMIT = 2_000


def main() -> None:
    """Serve until the pipe closes; ``argv[1]`` is the memory limit in bytes."""
    limit = int(sys.argv[1])
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
        reply, is_healthy = answer(json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)
        if not is_healthy:
            return


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
