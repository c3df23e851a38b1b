"""The page of a comparison, over a synthetic store: complete, self-contained, and true to the numbers."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from html import unescape
from html.parser import HTMLParser

import hydra
import pytest
from conftest import case_of
from plotly.offline import get_plotlyjs

from micota import doors
from micota.artifacts import Store, write_jsonl
from micota.config import Config
from micota.graph import Comparison, comparison
from micota.records import Completion, Node, Score
from micota.report import page
from micota.report.collect import Summary, summarise
from micota.report.page import headline, render_page
from micota.report.table import interval, tally, verdict
from micota.sources import load_problems

HOSTILE = "</script><b>bold</b><!-- <script>alert(1)</script> & 'quoted' \\boxed{4}"
PROFILES = {  # share of right answers, tokens an answer
    "instruct": (0.58, 36),
    "strong": (0.23, 153),
    "half_size": (0.30, 154),
    "short": (0.60, 36),
    "mix_long": (0.62, 36),
    "mix_large": (0.55, 40),
    "micota": (0.79, 91),
}
TEACHER = (0.97, 160)
BITS = {"strong": 0.62, "half_size": 0.6, "short": 0.21, "mix_long": 0.27, "mix_large": 0.24, "micota": 0.41}


def compare(seeds: Sequence[int], limit: int | None) -> dict[int, Comparison]:
    """The miniature experiment by seed, on the first problems of each benchmark."""
    limits = [f"bench.{level}.limit={limit or 'null'}" for level in ("easy", "medium", "hard")]
    shared = ["experiment=tiny", "compare.merge_weights=[0.3,0.4,0.6,0.7]", *limits]
    with hydra.initialize_config_dir(str(doors.CONF), version_base="1.3"):
        arms = [doors.prepare(hydra.compose("generate", [*shared, f"data={arm}"]), Config, []) for arm in PROFILES]
    return {seed: comparison(case_of(arms).at_seed(seed)) for seed in seeds}


def fill(store: Store, made: Comparison, seed: int) -> None:
    """Write the artifacts that a report reads: completions, scores and BPC of every model."""
    for arm in made.arms:
        answer_all(store, arm.scores, seed, *PROFILES[arm.name])
        if arm.bpc is not None:
            with store.build(arm.bpc, seed) as build:
                assert build is not None
                build.metrics |= {"bits_per_byte": BITS[arm.name], "num_tokens": 1.0}
    for weight, nodes in made.curve.items():
        answer_all(store, nodes, seed, 0.9 - 0.3 * (weight - 0.4) ** 2, 40 + 115 * weight)
    answer_all(store, made.teacher, seed, *TEACHER)


def answer_all(store: Store, nodes: dict[str, Node], seed: int, share: float, length: float) -> None:
    """Synthetic answers of one model to all benchmarks; harder ones are longer and less often right."""
    for shift, node in zip((-0.15, 0.0, 0.15), nodes.values(), strict=True):
        answers = node.inputs["completions"]
        if store.is_done(node):
            continue
        rng = random.Random(node.key)
        rows = [
            answer(rng, problem.id, problem.answer, share - shift, length * (1 + shift))
            for problem in load_problems(node.spec.problems)
        ]
        with store.build(answers, seed) as build:
            assert build is not None
            write_jsonl(build.path / "completions.jsonl", [completion for completion, _ in rows])
        with store.build(node, seed) as build:
            assert build is not None
            write_jsonl(build.path / "scores.jsonl", [score for _, score in rows])


def answer(rng: random.Random, identity: str, gold: str, share: float, length: float) -> tuple[Completion, Score]:
    """One answer and its grade: right, wrong, cut off, or without a box."""
    num_tokens = min(280, max(8, round(rng.lognormvariate(0, 0.35) * length)))
    correct = rng.random() < share
    prediction = gold if correct else rng.choice([str((int(gold) + 1) % 10)] * 4 + [None])
    finish = "length" if prediction is None and rng.random() < 0.8 else "stop"
    num_tokens = 280 if finish == "length" else num_tokens
    text = "Wait, 7*8=56, so 6.\n" * (num_tokens // 8) + (f"\\boxed{{{prediction}}}" if prediction else HOSTILE)
    completion = Completion(
        problem_id=identity,
        sample=0,
        prompt_hash="",
        completion=text,
        finish_reason=finish,
        num_prompt_tokens=9,
        num_tokens=num_tokens,
        seconds=0.1,
    )
    score = Score(
        problem_id=identity,
        sample=0,
        prediction=prediction,
        correct=None if prediction is None else correct,
        answer=gold,
        reason="rule",
        grader="typed",
        graders={},
        finish_reason=finish,
        num_tokens=num_tokens,
    )
    return completion, score


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Store, Comparison]:
    store = Store(tmp_path_factory.mktemp("world") / "artifacts")
    by_seed = compare((0, 1), limit=12)
    for seed, made in by_seed.items():
        fill(store, made, seed)
    return summarise(store, "tiny", "tiny_student", by_seed), store, by_seed[0]


@pytest.fixture(scope="module")
def html(world: tuple[Summary, Store, Comparison]) -> str:
    return render_page(*world, seed=0)


class Reader(HTMLParser):
    """All start tags with their attributes, the text of each script, and the cells of each row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag in ("th", "td", "script", "style") else self._open

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[self.tags[-1][1].get("id") or f"code {len(self.scripts)}"] = data
        elif self._open in ("th", "td", "i") and data.strip():
            self.rows[-1][-1] += data.strip()


def test_page_loads_nothing(html: str) -> None:
    reader = Reader(html)
    for tag, attributes in reader.tags:
        assert tag not in ("img", "iframe", "object", "embed", "video", "audio")
        assert "src" not in attributes
        assert attributes.get("href") in (None, "data:,")
    assert "http" not in html.replace(get_plotlyjs(), "").replace("http-equiv", "")
    policy = next(a for tag, a in reader.tags if tag == "meta" and a.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none';")
    assert html.count(get_plotlyjs()) == 1


def test_every_model_is_shown_in_every_place(html: str, world: tuple[Summary, Store, Comparison]) -> None:
    reader = Reader(html)
    labels = [
        *PROFILES,
        "TA before SFT",
        *(f"TA merged at 0.{n}" for n in (3, 4, 5, 6, 7)),
        "TA after SFT",
        "teacher",
    ]
    first_cells = [row[0] for row in reader.rows]
    assert first_cells == ["arm", *labels, "arm", *labels]
    data = json.loads(reader.scripts["answers"])
    assert [model["label"] for model in data["models"]] == labels
    assert [model["is_arm"] for model in data["models"]] == [True] * 7 + [False] * 8


def test_numbers_are_those_of_the_summary(html: str, world: tuple[Summary, Store, Comparison]) -> None:
    summary = world[0]
    rows = {row[0]: row[1:] for row in reversed(Reader(html).rows)}  # the first table wins
    for arm in [*summary.arms]:
        assert arm.seed_sd is not None
        assert rows[arm.name] == [
            *(f"{100 * arm.by_benchmark[bench].value:.1f}" for bench in summary.benchmarks),
            interval(arm.average),
            f"{100 * arm.seed_sd:.1f}",
            f"{arm.num_tokens:.0f}",
            "–" if arm.bits_per_byte is None else f"{arm.bits_per_byte:.3f}",
            "" if arm.difference is None else verdict(arm.difference),
        ]
    outcomes = {row[0]: row[1:5] for row in Reader(html).rows}
    for row in summary.arms:
        assert outcomes[row.name] == [str(row.outcomes.get(outcome, 0)) for outcome in page.OUTCOMES[:4]]
    assert headline(summary) in unescape(html)


def test_one_seed_is_compared_by_benchmark_too(world: tuple[Summary, Store, Comparison], html: str) -> None:
    _, store, made = world
    alone = summarise(store, "tiny", "tiny_student", {0: made})
    rows = Reader(render_page(alone, store, made, seed=0)).rows
    shown = [row for row in rows if row[0] in PROFILES and len(row) == 4 and "(p " in row[1]]
    assert [row[0] for row in shown] == [name for name in PROFILES if name != "instruct"]
    assert shown[-1][1:] == [tally(alone.arms[-1].discordance[bench]) for bench in alone.benchmarks]
    assert 'aria-label="table of single benchmarks"' not in html  # two seeds


def test_completions_cannot_break_the_page(html: str, world: tuple[Summary, Store, Comparison]) -> None:
    reader = Reader(html)
    assert [name for name in reader.scripts if not name.startswith("code")] == [
        *(f"figure-{name}" for name in ("accuracy", "lengths", "merge", "bpc")),
        "answers",
    ]
    assert "bold</b>" not in html
    data = json.loads(reader.scripts["answers"])
    texts = [answer[3] for bench in data["benchmarks"] for p in bench["problems"] for answer in p["answers"]]
    assert any(text.endswith(HOSTILE) for text in texts)


def test_answers_are_those_of_the_artifacts(html: str, world: tuple[Summary, Store, Comparison]) -> None:
    _, _, made = world
    data = json.loads(Reader(html).scripts["answers"])
    for shown, node in zip(data["benchmarks"], made.arms[0].scores.values(), strict=True):
        problems = load_problems(node.spec.problems)
        assert shown["total"] == len(problems) == 12
        assert [p["id"] for p in shown["problems"]] == [problem.id for problem in problems]
        assert [(p["problem"], p["gold"]) for p in shown["problems"]] == [(p.problem, p.answer) for p in problems]
        for problem in shown["problems"]:
            for outcome, prediction, num_tokens, _ in problem["answers"]:
                assert outcome in page.OUTCOMES
                assert (outcome == "correct") == (prediction == problem["gold"])
                assert 8 <= num_tokens <= 280


@pytest.fixture
def small_page(
    world: tuple[Summary, Store, Comparison], monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(page, "get_plotlyjs", lambda: "")
    yield monkeypatch


def shown_problems(html: str) -> list[int]:
    return [len(bench["problems"]) for bench in json.loads(Reader(html).scripts["answers"])["benchmarks"]]


def test_problems_are_capped(world: tuple[Summary, Store, Comparison], small_page: pytest.MonkeyPatch) -> None:
    small_page.setattr(page, "MAX_PROBLEMS", 5)
    html = render_page(*world, seed=0)
    assert shown_problems(html) == [5, 5, 5]
    assert [bench["total"] for bench in json.loads(Reader(html).scripts["answers"])["benchmarks"]] == [12, 12, 12]


def test_bytes_are_capped(world: tuple[Summary, Store, Comparison], small_page: pytest.MonkeyPatch) -> None:
    small_page.setattr(page, "MAX_COMPLETION_BYTES", 60_000)
    html = render_page(*world, seed=0)
    counts = shown_problems(html)
    assert len(set(counts)) == 1 and 1 <= counts[0] < 12
    data = json.loads(Reader(html).scripts["answers"])
    texts = [answer[3] for bench in data["benchmarks"] for p in bench["problems"] for answer in p["answers"]]
    assert sum(map(len, texts)) <= 60_000
    small_page.setattr(page, "MAX_COMPLETION_BYTES", 1)
    assert shown_problems(render_page(*world, seed=0)) == [1, 1, 1]


def test_a_source_out_of_reach_is_no_error(
    world: tuple[Summary, Store, Comparison], small_page: pytest.MonkeyPatch
) -> None:
    def offline(source: object) -> None:
        raise ConnectionError("no network")

    small_page.setattr(page, "load_problems", offline)
    data = json.loads(Reader(render_page(*world, seed=0)).scripts["answers"])
    assert {p["problem"] for bench in data["benchmarks"] for p in bench["problems"]} == {None}


def test_provenance_is_on_the_page(html: str, world: tuple[Summary, Store, Comparison]) -> None:
    _, store, made = world
    manifest = store.manifest(made.arms[0].scores["easy"])
    assert manifest is not None
    text = re.sub(r"\s+", " ", html)
    assert f"numpy {manifest.versions['numpy']}" in text
    for arm in made.arms:
        for node in arm.scores.values():
            assert f"<code>{node.folder}</code>" in text
