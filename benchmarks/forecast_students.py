"""Outcomes of many toy students for a forecast: 18 students (six sizes, three lengths of pre-training each), six recipes
and two seeds are 216 outcomes.

    python benchmarks/forecast_students.py [--out outcomes.csv] [--students qwen-33k,...] [--seeds 0,1] [OVERRIDE ...]

It pre-trains the students that are missing (``toy_students`` of the artifacts), runs the pipeline once for each seed, and
writes the table. It can be stopped at any time: called again it goes on, and what is finished is not made again.
``--table-only`` writes the finished outcomes of a run that goes on meanwhile.

A row is one student with one recipe at one seed: facts of the student, likelihood of the recipe's data under it before
SFT, length of the data in tokens, and its accuracy before and after on ``num_problems`` test problems. The table is
what ``micota forecast outcomes=FILE`` reads; ``benchmarks/forecast_skill.py`` judges forecasts from it.
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import pandas as pd

from micota.artifacts.jsonl import write_text
from micota.artifacts.store import Store
from micota.cli.app import CONF, prepare
from micota.cli.experiments import cases
from micota.cli.pipeline import pipeline
from micota.config import SCHEMAS, Call, Config
from micota.graph import CaseConfig, comparison
from micota.report.collect import summarise
from micota.runtime.plan import pending
from micota.tiny.family import FAMILY, parameters_of, pretrain

FIXED = [
    "experiment=tiny",
    "name=forecast_students",
    "compare.recipes=[instruct,strong,half_size,short,mix_long,mix_large,micota]",
    "compare.measures=[scores,bpc]",
    "compare.merge_weights=[]",
]


@dataclass(frozen=True)
class Student:
    """One student: its size, the name of its length of pre-training, and its folder or bundled name."""

    size: str
    length: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.size}-{self.length}"

    @property
    def overrides(self) -> list[str]:
        """How commands choose it."""
        option = f"student=tiny_{self.size.removeprefix('qwen-')}"
        return [option] if self.path.startswith("bundled:") else [option, f"student.path={self.path}"]

    @property
    def facts(self) -> dict[str, Any]:
        """Columns that hold for all outcomes of the student."""
        member = FAMILY[self.size]
        total, embedding = parameters_of(member)
        steps = member.lengths[self.length]
        return {
            "label": self.name,
            "num_parameters": total,
            "body_parameters": total - embedding,
            "num_layers": member.num_layers,
            "hidden_size": member.hidden_size,
            "pretraining_steps": steps,
        }


def every_student(sizes: Sequence[str], folder: Path) -> list[Student]:
    """All students of some sizes, where the middle length is the bundled one."""
    return [
        Student(size, length, f"bundled:{size}" if length == "middle" else str(folder / f"{size}-{length}"))
        for size in sizes
        for length in FAMILY[size].lengths
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outcomes.csv"))
    parser.add_argument("--students", default=",".join(FAMILY), help="sizes, as qwen-33k,qwen-66k")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--table-only", action="store_true", help="make nothing; write what is finished")
    parser.add_argument("overrides", nargs="*", help="settings of all runs, as tracker=none")
    options = parser.parse_args()
    sizes = options.students.split(",")
    if unknown := set(sizes) - FAMILY.keys():
        parser.error(f"--students has {', '.join(sorted(unknown))}; accepted: {', '.join(FAMILY)}")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        folder = Path(composed([*FIXED, *options.overrides]).artifacts).resolve() / "toy_students"
        students = every_student(sizes, folder)
        if not options.table_only:
            make_students(sizes, folder)
        students = [one for one in students if one.path.startswith("bundled:") or Path(one.path).exists()]
        rows: list[dict[str, Any]] = []
        for seed in options.seeds.split(","):
            axis = ",".join(f"{{{student.name}: {student.overrides}}}" for student in students)
            config: Any = composed([*FIXED, f"+compare.axes.student=[{axis}]", f"seed={seed}", *options.overrides])
            every = cases(config)
            if not options.table_only:
                pipeline(config, every)
            for student, case in zip(students, every, strict=True):
                rows += outcomes(student, case)
    write_text(options.out, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
    print(f"{len(rows)} outcomes in {options.out}")


def make_students(sizes: Sequence[str], folder: Path) -> None:
    """Pre-train the students that are neither bundled nor in ``folder`` yet."""
    for size in sizes:
        lengths = {name: steps for name, steps in FAMILY[size].lengths.items() if name != "middle"}
        missing = {steps: folder / f"{size}-{name}" for name, steps in lengths.items()}
        missing = {steps: path for steps, path in missing.items() if not path.exists()}
        for line in pretrain(size, missing) if missing else ():
            print(f"{size}: {line}", flush=True)


def composed(overrides: list[str]) -> Config:
    config: Config = prepare(hydra.compose("pipeline", overrides), SCHEMAS["pipeline"], Call(overrides=overrides))
    return config


def outcomes(student: Student, case: CaseConfig) -> Iterator[dict[str, Any]]:
    """One row for each recipe with data; none where the case is not finished."""
    made, store = comparison(case), Store(case.config.artifacts)
    if pending(store, made.targets()):
        return
    summary = summarise(store, case.config.name, student.name, {case.config.seed: made})
    by_name = {row.name: row for row in summary.recipes}
    # As finished trainings of an artifacts folder name it, so that a forecast leaves out its own student.
    [student_id] = {
        f"{node.name}-{node.key}"
        for recipe in made.recipes
        if recipe.bpc is not None
        for node in [recipe.bpc.inputs["model"]]
    }
    before = by_name["instruct"]
    for trial in summary.trials:
        after = by_name[trial.recipe]
        yield {
            "student": student_id,
            **student.facts,
            "recipe": trial.recipe,
            "seed": trial.seed,
            **{name: value for name, value in trial.known.items() if name != "tokens_per_s"},
            "num_problems": sum(len(values) for values in after.means.values()),
            "accuracy_before": before.average.value,
            "accuracy_after": after.average.value,
            "gain": trial.gain,
            **{f"before_{bench}": before.by_benchmark[bench].value for bench in summary.benchmarks},
            **{f"after_{bench}": after.by_benchmark[bench].value for bench in summary.benchmarks},
        }


if __name__ == "__main__":
    main()
