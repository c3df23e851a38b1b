r"""The graders on real benchmarks and real outputs, side by side with Math-Verify and lm-evaluation-harness in one run.

    python benchmarks/graders.py [--data ../shared/data] [--repeats 5]

Five parts: golds fed back in five spellings of LaTeX; agreement with verdicts that come with real outputs, by source,
with every disagreement; accuracy of verdicts and outputs per second of each grader; CPU time of fresh processes on
texts of 60,000 characters; and the test inputs of Math-Verify and of lm-evaluation-harness, rewritten, by each grader.
``--data`` is a folder with
``bench/{aime24,amc23,gsm8k,math500,olympiadbench}.jsonl`` (id, problem, answer, meta) and
``grading/real_outputs.jsonl`` (id, source, response, gold, source_correct, meta). lm-evaluation-harness is read, not
imported: ``pip install --no-deps lm-eval==0.4.13``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from micota.config import SourceConfig
from micota.data.sources import load_problems
from micota.grading import paper_rule
from micota.grading.extraction.extract import Extraction
from micota.grading.graders import Graders, Submission, extraction
from micota.records import Problem

CONF = Path(__file__).parents[1] / "conf" / "bench"
PEERS = Path(__file__).with_name("peer_inputs.txt")
KINDS = Path(__file__).parents[1] / "tests" / "grading" / "kinds.txt"
BENCHES = ("aime24", "amc23", "gsm8k", "math500", "olympiadbench")
# Where the columns of a local copy have other names than those of the hub's.
LOCAL = {
    "subset": None, "num_rows": None, "id_column": "id", "problem_column": "problem", "answer_column": "answer"
}  # fmt: skip
OLYMPIAD = {
    "type_column": "meta.answer_type",
    "list_column": "meta.is_multiple_answer",
    "unit_column": "meta.unit",
    "tolerance_column": "meta.error",
}


def dressed(answer: str) -> str:
    return answer if r"\left" in answer else re.sub(r"\(", r"\\left(", re.sub(r"\)", r"\\right)", answer))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "bare": lambda answer: answer,
    "in a sentence": lambda answer: f"Therefore the answer is $\\boxed{{{answer}}}$.",
    "display fractions": lambda answer: "\\[\\boxed{" + answer.replace("\\frac", "\\dfrac") + "}\\]",
    "spaced": lambda answer: "So \\(\\boxed { " + re.sub(r"(?<![\\a-zA-Z])([=+])", r" \\, \1 \\; ", answer) + " }\\)",
    "sized brackets": lambda answer: "$$\\boxed{\\displaystyle " + dressed(answer) + "}$$",
    "braces, dollars, fonts": lambda answer: (
        "Final Answer: \\boxed{${"
        + re.sub(r"(?<!\\)\$", "", answer).replace("\\text{", "\\mathrm{").replace("\\mbox{", "\\textrm{")
        + "}$}"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data in {options.data}; give --data (see --help for its files)")
        return
    with Graders(num_workers=options.workers) as graders:
        feed_golds_back(options.data, graders)
        rows = [json.loads(line) for line in open(options.data / "grading" / "real_outputs.jsonl", encoding="utf-8")]
        agreement(rows, graders)
        side_by_side(rows, graders, options.repeats, options.workers)
        peer_inputs(graders)
    from_start()


def feed_golds_back(data: Path, graders: Graders) -> None:
    """Right answers by grader, out of all golds of a benchmark, in each spelling."""
    print("# Golds fed back: accepted by typed / by paper_rule, of all\n")
    print("| spelling | " + " | ".join(BENCHES) + " |\n|---|" + "---|" * len(BENCHES))
    cells: dict[str, list[str]] = defaultdict(list)
    for bench in BENCHES:
        path = data / "bench" / f"{bench}.jsonl"
        settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{bench}.yaml"))[bench] | LOCAL | {"path": str(path)}
        settings = {name: value for name, value in settings.items() if name in SourceConfig.__dataclass_fields__}
        problems = load_problems(SourceConfig(**settings | (OLYMPIAD if bench == "olympiadbench" else {})))
        metas = [json.loads(line)["meta"] for line in open(path, encoding="utf-8")]
        # The published rule compares with the spelling of the source ($...$, 27.0, 025).
        raw = [str(meta.get("source_answer", p.answer)) for meta, p in zip(metas, problems, strict=True)]
        rule = settings.get("paper_rule", "hendrycks")
        for name, spell in SPELLINGS.items():
            texts = [spell(problem.answer) for problem in problems]
            if name == "bare":
                verdicts = graders.typed(list(zip(problems, texts, strict=True)))
                right = sum(verdict.correct is True for verdict in verdicts)
                by_rule = sum(paper_rule.is_correct(text, gold, rule) for text, gold in zip(texts, raw, strict=True))
            else:
                graded = graders.grade([Submission(*pair) for pair in zip(problems, texts, strict=True)], rule)
                right = sum(by["typed"].correct is True for by in graded)
                extracted = [by["paper_rule"].prediction for by in graded]
                by_rule = sum(
                    text is not None and paper_rule.is_correct(text, gold, rule)
                    for text, gold in zip(extracted, raw, strict=True)
                )
            cells[name].append(f"{right} / {by_rule} of {len(problems)}")
    for name, columns in cells.items():
        print(f"| {name} | " + " | ".join(columns) + " |")


def agreement(rows: list[dict[str, Any]], graders: Graders) -> None:
    """The agreement of ``typed`` with the verdicts that come with the outputs."""
    graded = graders.typed([(problem_of(row), prediction_of(row)) for row in rows])
    counts: Counter[tuple[str, bool]] = Counter()
    disputed = []
    for row, verdict in zip(rows, graded, strict=True):
        agrees = (verdict.correct is True) == row["source_correct"]
        if not row["meta"].get("verdict_doubtful"):
            counts[row["source"], agrees] += 1
        if not agrees:
            disputed.append((row, verdict))
    print("\n# Agreement of typed with the verdicts of the sources that are not marked doubtful\n")
    for source in sorted({source for source, _ in counts}):
        yes, no = counts[source, True], counts[source, False]
        print(f"{source:55s} {yes} of {yes + no} ({yes / (yes + no):.2%})")
    yes = sum(count for (_, agrees), count in counts.items() if agrees)
    print(f"{'all':55s} {yes} of {sum(counts.values())} ({yes / sum(counts.values()):.2%})")
    print("\nEvery disagreement:")
    for row, verdict in disputed:
        doubtful = "doubtful" if row["meta"].get("verdict_doubtful") else ""
        print(f"- {row['id']} {doubtful} gold {row['gold']!r}, source {row['source_correct']}, typed {verdict}")
        print(f"    ... {row['response'][-100:]!r}")


def side_by_side(rows: list[dict[str, Any]], graders: Graders, repeats: int, workers: int) -> None:
    """Verdicts and speed of all graders on the same rows; in turn, so that noise is alike for all."""
    trusted = [row for row in rows if not row["meta"].get("verdict_doubtful")]
    peers: dict[str, Callable[[list[dict[str, Any]]], list[bool]]] = {
        "typed": lambda some: by_typed(some, graders),
        "Math-Verify": lambda some: [by_math_verify(row) for row in some],
        f"Math-Verify, {workers} processes": lambda some: in_processes(some, workers),
    }
    harness = lm_eval_rules()
    if harness is not None:
        peers["lm-evaluation-harness"] = lambda some: [harness(row) for row in some]
    seconds: dict[str, list[float]] = defaultdict(list)
    verdicts: dict[str, list[bool]] = {}
    by_typed(trusted, graders)  # start the workers
    for _ in range(repeats):
        for name, judge in peers.items():
            start = time.perf_counter()
            verdicts[name] = judge(trusted)
            seconds[name].append(time.perf_counter() - start)
    print(f"\n# Side by side on {len(trusted)} outputs, {repeats} rounds\n")
    print("| grader | agreement | wrongly accepted | wrongly rejected | outputs/s, median | ratio to Math-Verify |")
    print("|---|---|---|---|---|---|")
    truth = [row["source_correct"] for row in trusted]
    for name, answers in verdicts.items():
        accepted = sum(right and not real for right, real in zip(answers, truth, strict=True))
        rejected = sum(real and not right for right, real in zip(answers, truth, strict=True))
        ratios = [peer / grader for peer, grader in zip(seconds["Math-Verify"], seconds[name], strict=True)]
        print(
            f"| {name} | {1 - (accepted + rejected) / len(truth):.2%} | {accepted} | {rejected} | "
            f"{len(trusted) / statistics.median(seconds[name]):.0f} | {statistics.median(ratios):.1f} |"
        )


def peer_inputs(graders: Graders) -> None:
    """Right verdicts of each grader on the test inputs of its peers, and on the kinds of this project."""
    harness = lm_eval_rules()
    graded: dict[str, dict[str, int]] = {}
    for part, path in (("", PEERS), ("our kinds", KINDS)):
        for kind, gold, expected, completion in read_inputs(path):
            row = {"id": "", "source": "", "problem": "", "gold": gold, "response": completion}
            counts = graded.setdefault(part or kind, Counter())
            counts["inputs"] += 1
            counts["typed"] += by_typed([row], graders)[0] == expected
            counts["Math-Verify"] += by_math_verify(row) == expected
            counts["lm-evaluation-harness"] += harness is not None and harness(row) == expected
            answer = paper_rule.extract(completion, "hendrycks")
            counts["paper_rule"] += (
                answer is not None and paper_rule.is_correct(answer, gold, "hendrycks")
            ) == expected
    print("\n# Right verdicts on test inputs, rewritten\n")
    names = ("inputs", "typed", "Math-Verify", "lm-evaluation-harness", "paper_rule")
    print("| from | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for part, counts in graded.items():
        print(f"| {part} | " + " | ".join(str(counts[name]) for name in names) + " |")


def read_inputs(path: Path) -> list[tuple[str, str, bool, str]]:
    """Rows of a file of inputs: part, gold, whether the completion is right, completion."""
    rows = []
    part = ""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("= "):
            part = line[2:]
        elif line and not line.startswith("#"):
            gold, expected, completion = line.split(" | ", 2)
            for mark, character in (("⏎", "\n"), ("^L", "\x0c"), ("^H", "\x08")):
                completion = completion.replace(mark, character)
            rows.append((part, gold, expected == "T", completion))
    return rows


LONG = r"""
import resource, sys
gold = "\\frac{3}{8}"
text = "<think>" + "Let me see: $x = 3 + 4$ and so on. " * 1_700 + "</think> So \\boxed{\\frac{6}{16}}."
def typed(count):
    from micota.grading.graders import Graders, Submission
    from micota.records import Problem
    with Graders() as graders:
        rows = [Submission(Problem(id="", problem="", answer=gold), text + " " * i) for i in range(count)]
        assert all(by["typed"].correct for by in graders.grade(rows))
def math_verify(count):
    from math_verify import parse, verify
    assert all(verify(parse(f"${gold}$"), parse(text + " " * i)) for i in range(count))
{"typed": typed, "math_verify": math_verify}[sys.argv[1]](int(sys.argv[2]))
who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
print(sum(sum(resource.getrusage(which)[:2]) for which in who))
"""


def from_start(counts: tuple[int, ...] = (1, 20, 200)) -> None:
    """CPU seconds of a fresh process, start-up included, for a number of texts of 60,000 characters."""
    print("\n# CPU seconds of a fresh process on texts of 60,000 characters\n")
    print("| texts | typed | Math-Verify | ratio |\n|---|---|---|---|")
    for count in counts:
        ours, theirs = (
            statistics.median(
                float(
                    subprocess.run(
                        [sys.executable, "-c", LONG, name, str(count)], stdout=subprocess.PIPE, check=True
                    ).stdout
                )
                for _ in range(3)
            )
            for name in ("typed", "math_verify")
        )
        print(f"| {count} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} |")


def problem_of(row: dict[str, Any]) -> Problem:
    return Problem(id=row["id"], problem=row["problem"], answer=row["gold"])


def prediction_of(row: dict[str, Any]) -> Extraction:
    return extraction(Submission(problem_of(row), row["response"]))


def by_typed(rows: list[dict[str, Any]], graders: Graders) -> list[bool]:
    graders.forget()
    return [verdict.correct is True for verdict in graders.typed([(problem_of(r), prediction_of(r)) for r in rows])]


def by_math_verify(row: dict[str, Any]) -> bool:
    """The call of its README."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${row['gold']}$"), parse(row["response"])))


def in_processes(rows: list[dict[str, Any]], workers: int) -> list[bool]:
    with multiprocessing.Pool(workers) as pool:
        return pool.map(by_math_verify, rows, chunksize=32)


def lm_eval_rules() -> Callable[[dict[str, Any]], bool] | None:
    """hendrycks_math's rule for problems of MATH, and flexible-extract of gsm8k_cot_zeroshot for those of GSM8K."""
    package = importlib.util.find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        print("\nlm-evaluation-harness is not installed: pip install --no-deps lm-eval==0.4.13")
        return None
    path = Path(package.submodule_search_locations[0]) / "tasks" / "hendrycks_math" / "utils.py"
    spec = importlib.util.spec_from_file_location("hendrycks_math_utils", path)
    assert spec is not None and spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)

    def is_right(row: dict[str, Any]) -> bool:
        if "gsm8k" in row["source"].lower() or "grade-school" in row["source"] or "ToRA" in row["source"]:
            answer = paper_rule.extract(row["response"], "gsm8k")
            return answer is not None and paper_rule.is_correct(answer, row["gold"], "gsm8k")
        box = rule.last_boxed_only_string(row["response"])
        try:
            return box is not None and bool(rule.is_equiv(rule.remove_boxed(box), row["gold"]))
        except AssertionError:
            return False

    return is_right


if __name__ == "__main__":
    main()
