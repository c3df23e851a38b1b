"""The bundled problems: one training split, and a development and a test split at each level.

`python -m micota.tiny.problems` writes the same files again, byte for byte. No chain (start and operations) occurs
twice, within a split or across splits. Tune on `dev_*`, report on `test_*`.
"""

import json
import random
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from micota.tiny.task import LEVELS, Chain, parse_problem, sample_question

FOLDER = Path(str(files("micota.tiny"))) / "problems"


@dataclass(frozen=True, kw_only=True)
class Split:
    """One file of problems whose numbers of steps are uniform over `min_steps` to `max_steps`."""

    name: str
    seed: int
    num_problems: int
    min_steps: int
    max_steps: int


SPLITS = (
    Split(name="train", seed=100, num_problems=1600, min_steps=2, max_steps=8),
    *(
        Split(name=f"dev_{level}", seed=200 + i, num_problems=200, min_steps=low, max_steps=high)
        for i, (level, (low, high)) in enumerate(LEVELS.items())
    ),
    *(
        Split(name=f"test_{level}", seed=300 + i, num_problems=300, min_steps=low, max_steps=high)
        for i, (level, (low, high)) in enumerate(LEVELS.items())
    ),
)


def make_split(split: Split, seen: set[Chain]) -> list[dict[str, str]]:
    """Rows `id`, `problem`, `answer` of one split; its chains avoid `seen` and are added to it."""
    rng = random.Random(split.seed)
    rows: list[dict[str, str]] = []
    while len(rows) < split.num_problems:
        question = sample_question(rng, rng.randint(split.min_steps, split.max_steps))
        if question.chain not in seen:
            seen.add(question.chain)
            row_id = f"tiny/{split.name}/{len(rows)}"
            rows.append({"id": row_id, "problem": question.problem, "answer": question.answer})
    return rows


def load_split(name: str) -> list[dict[str, str]]:
    """The bundled rows of one split, for instance `dev_easy`."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def excluded_chains() -> set[Chain]:
    """All chains of the development and test splits, which pre-training excludes."""
    names = [split.name for split in SPLITS if split.name != "train"]
    return {parse_problem(row["problem"]).chain for name in names for row in load_split(name)}


def main() -> None:
    """Write all splits into the package."""
    FOLDER.mkdir(exist_ok=True)
    seen: set[Chain] = set()
    for split in SPLITS:
        lines = [json.dumps(row) + "\n" for row in make_split(split, seen)]
        (FOLDER / f"{split.name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
