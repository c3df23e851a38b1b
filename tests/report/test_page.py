"""The page of an experiment, over a synthetic store: complete, self-contained, and true to the numbers."""

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from synthetic_store import HOSTILE, PROFILES

from micota.artifacts.store import Store
from micota.config import Call
from micota.data.sources import load_problems
from micota.records import OUTCOMES
from micota.report import answers, page
from micota.report.collect import CaseReport, summarise
from micota.report.frames import export_files
from micota.report.page import pack, render_page
from micota.report.table import headline, interval, mark, tally, verdict

Finished = tuple[Store, CaseReport]
LABELS = [*PROFILES, "TA before SFT", *(f"TA merged at 0.{n}" for n in (3, 4, 5, 6, 7)), "TA after SFT", "teacher"]


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
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        self._open = tag if tag in ("th", "td", "script", "style") else self._open

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag in ("th", "td", "script", "style") else self._open

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[self.tags[-1][1].get("id") or f"code {len(self.scripts)}"] = data
        elif self._open in ("th", "td"):
            self.rows[-1][-1] += data.strip()


def unpack(html: str, name: str = "payload") -> str:
    return gzip.decompress(base64.b64decode(Reader(html).scripts[name])).decode()


def payload(html: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(unpack(html))
    return payload


def test_packed_text_comes_back() -> None:
    assert gzip.decompress(base64.b64decode(pack(HOSTILE + "é"))).decode() == HOSTILE + "é"
    assert pack("same") == pack("same")  # no time of day in it


def test_page_loads_nothing(html: str) -> None:
    reader = Reader(html)
    for tag, attributes in reader.tags:
        assert tag not in ("img", "iframe", "object", "embed", "video", "audio")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "http" not in html.replace("http-equiv", "")
    policy = next(a for tag, a in reader.tags if tag == "meta" and a.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none';")
    assert unpack(html, "plotly").count("plotly.js v") == 1


def test_every_model_is_shown_in_every_part_of_the_page(html: str) -> None:
    first_cells = [row[0] for row in Reader(html).rows]
    assert first_cells[: len(LABELS) + 1] == ["recipe", *LABELS], "results"
    assert first_cells[-len(LABELS) - 1 :] == ["recipe", *LABELS], "outcomes"
    relative = [row[0] for row in Reader(html).rows if len(row) == 3 and row[1] == "instruct"]
    assert relative == LABELS[1:7], "relative improvements on the student before SFT"
    shown = payload(html)["answers"][0]["models"]
    assert [model["label"] for model in shown] == LABELS
    assert [model["is_recipe"] for model in shown] == [True] * 7 + [False] * 8
    assert [model["label"] for model in payload(html)["lineage"]["models"][0]] == LABELS


def test_numbers_are_those_of_the_summary(html: str, finished: Finished) -> None:
    summary = finished[1].summary
    rows = {row[0]: row[1:] for row in reversed(Reader(html).rows)}  # the first table wins
    for recipe in summary.recipes:
        assert recipe.seed_sd is not None
        assert rows[recipe.name] == [
            *(f"{100 * recipe.by_benchmark[bench].value:.1f}" for bench in summary.benchmarks),
            interval(recipe.average) + ("" if recipe.difference is None else mark(recipe.difference)),
            f"{100 * recipe.seed_sd:.1f}",
            f"{recipe.num_tokens:.0f}",
            "–" if recipe.bits_per_byte is None else f"{recipe.bits_per_byte:.3f}",
            "" if recipe.difference is None else verdict(recipe.difference),
        ]
    outcomes = {row[0]: row[1:5] for row in Reader(html).rows}
    for row in summary.recipes:
        assert outcomes[row.name] == [str(row.outcomes.get(outcome, 0)) for outcome in OUTCOMES[:4]]
    assert headline(summary) in unescape(html)


def test_every_number_leads_to_a_lineage(html: str) -> None:
    models = payload(html)["lineage"]["models"][0]
    buttons = [tag for name, tag in Reader(html).tags if name == "button" and "data-measure" in tag]
    traced = Counter(button.get("data-about", "measure") for button in buttons)
    assert traced.pop("measure") == 15 * 4 + 6  # three benchmarks and their average, and the BPC of six recipes
    assert {"tokens per answer", "standard deviation over seeds", "correct", "incorrect"} < traced.keys()
    assert set(traced.values()) == {15}
    for button in buttons:
        by_seed = models[int(button["data-model"] or 0)]["measures"][button["data-measure"]]
        assert list(by_seed) == ["0", "1"]
        assert len(by_seed["0"]) == (3 if button["data-measure"] == "average" else 1)


def test_one_seed_is_compared_by_benchmark_too(finished: Finished, html: str) -> None:
    store, case = finished
    by_seed = {0: case.by_seed[0]}
    alone = CaseReport(summary=summarise(store, "tiny", "tiny_student", by_seed), by_seed=by_seed)
    rows = Reader(render_page("tiny", [alone], store, seed=0, call=Call())).rows
    shown = [row for row in rows if row[0] in PROFILES and len(row) == 4 and "(p " in row[1]]
    assert [row[0] for row in shown] == [name for name in PROFILES if name != "instruct"]
    assert shown[-1][1:] == [tally(alone.summary.recipes[-1].discordance[bench]) for bench in alone.summary.benchmarks]
    assert 'aria-label="table of single benchmarks"' not in html  # two seeds


def test_completions_cannot_break_the_page(html: str) -> None:
    assert [name for name in Reader(html).scripts if not name.startswith("code")] == ["payload", "plotly"]
    assert "bold</b>" not in html
    benchmarks = payload(html)["answers"][0]["benchmarks"]
    texts = [answer[3] for bench in benchmarks for problem in bench["problems"] for answer in problem["answers"]]
    assert any(text.endswith(HOSTILE) for text in texts)


def test_answers_are_those_of_the_artifacts(html: str, finished: Finished) -> None:
    made = finished[1].by_seed[0]
    benchmarks = payload(html)["answers"][0]["benchmarks"]
    for shown, node in zip(benchmarks, made.recipes[0].scores.values(), strict=True):
        problems = load_problems(node.spec.problems)
        assert shown["total"] == len(problems) == 12
        assert [p["id"] for p in shown["problems"]] == [problem.id for problem in problems]
        assert [(p["problem"], p["gold"]) for p in shown["problems"]] == [(p.problem, p.answer) for p in problems]
        for problem in shown["problems"]:
            for outcome, prediction, num_tokens, _ in problem["answers"]:
                assert outcome in OUTCOMES
                assert (outcome == "correct") == (prediction == problem["gold"])
                assert 8 <= num_tokens <= 280


@pytest.fixture
def small_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(page, "get_plotlyjs", lambda: "")
    yield monkeypatch


def shown_problems(finished: Finished, copies: int = 1) -> list[list[int]]:
    store, case = finished
    shown = payload(render_page("tiny", [case] * copies, store, seed=0, call=Call()))["answers"]
    return [[len(bench["problems"]) for bench in browser["benchmarks"]] for browser in shown]


def test_problems_are_capped(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    small_page.setattr(answers, "MAX_PROBLEMS", 5)
    assert shown_problems(finished) == [[5, 5, 5]]


def test_bytes_are_capped_and_shared_by_cases(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    small_page.setattr(page, "MAX_COMPLETION_BYTES", 60_000)
    [(alone, *_)] = shown_problems(finished)
    assert 1 < alone < 12
    assert all(1 <= bench < alone for case in shown_problems(finished, copies=2) for bench in case)
    small_page.setattr(page, "MAX_COMPLETION_BYTES", 1)
    assert shown_problems(finished) == [[1, 1, 1]]


def test_a_source_out_of_reach_is_no_error(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    def offline(source: object) -> None:
        raise ConnectionError("no network")

    small_page.setattr(answers, "load_problems", offline)
    store, case = finished
    shown = payload(render_page("tiny", [case], store, seed=0, call=Call()))["answers"][0]["benchmarks"]
    assert {problem["problem"] for bench in shown for problem in bench["problems"]} == {None}


def test_several_cases_share_a_page(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    store, case = finished
    cases = [
        replace(case, summary=replace(case.summary, labels={"student": student, "teacher": teacher}))
        for student in ("small", "large")
        for teacher in ("R1", "QwQ")
    ]
    html = render_page("tiny", cases, store, seed=0, call=Call())
    reader = Reader(html)
    overview = [row for row in reader.rows if row[0].endswith((", R1", ", QwQ"))]
    assert [row[0] for row in overview] == [
        case.summary.case_label for case in cases
    ] * 2  # accuracy, and BPC of the data
    assert [len(row) for row in overview] == [1 + len(PROFILES)] * 4 + [len(PROFILES)] * 4
    axes = [tag["data-axis"] for name, tag in reader.tags if name == "select" and "data-axis" in tag]
    assert axes == ["student", "teacher"]
    ids = [tag["id"] for _, tag in reader.tags if "id" in tag]
    assert len(set(ids)) == len(ids)
    assert len(payload(html)["figures"]) == 4


def test_an_axis_may_be_a_dotted_key(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    store, case = finished
    cases = [
        replace(case, summary=replace(case.summary, labels={"student.sft.epochs": epochs, "merge.density": "0.2"}))
        for epochs in ("1", "2")
    ]
    html = render_page("tiny", cases, store, seed=0, call=Call())
    tags = Reader(html).tags
    axes = [tag["data-axis"] for name, tag in tags if name == "select" and "data-axis" in tag]
    assert axes == ["student.sft.epochs", "merge.density"]
    assert re.findall(r"<option>(.*?)</option>", html.partition('id="chooser"')[2].partition("</form>")[0]) == [
        "1", "2", "0.2",
    ]  # fmt: skip
    assert "student.sft.epochs" in export_files([case.summary for case in cases])["results.csv"]


def test_what_was_not_measured_is_left_out(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    store, case = finished
    recipe = case.summary.recipes[1]
    bare = replace(case.summary, recipes=[replace(recipe, bits_per_byte=None)], curve={}, teacher=None, mixes={})
    by_seed = {
        seed: replace(made, recipes=made.recipes[1:2], curve={}, teacher={}) for seed, made in case.by_seed.items()
    }
    html = render_page("tiny", [CaseReport(summary=bare, by_seed=by_seed)], store, seed=7, call=Call())
    assert [row[0] for row in Reader(html).rows] == [
        "recipe",
        "strong",
        "tokens per right answer",
        "strong",
        "recipe",
        "strong",
    ]
    assert set(payload(html)["figures"][0]) == {"accuracy", "lengths"}
    assert payload(html)["answers"][0]["seed"] == 0  # seed 7 was not run


def test_published_numbers_stand_beside_ours(finished: Finished, small_page: pytest.MonkeyPatch) -> None:
    store, case = finished
    summary = summarise(store, "micota", "tiny_student", case.by_seed, {"student": "qwen1.5b"})
    assert summary.published["micota"]["average"] == 33.01 and summary.published["teacher"]["gsm8k"] == 86.27
    assert set(summary.published) == {"instruct", "strong", "mix_long", "micota", "teacher"}  # five merges: no one TA
    html = render_page("micota", [CaseReport(summary=summary, by_seed=case.by_seed)], store, seed=0, call=Call())
    [average] = [row[4] for row in Reader(html).rows if row[0] == "micota" and len(row) == 9]
    recipe = summary.recipes[-1]
    assert recipe.difference is not None
    assert average == f"{interval(recipe.average)}{mark(recipe.difference)}33.0"
    assert "MiCoTA table 2" in html
    assert "are published:" not in render_page("tiny", [case], store, seed=0, call=Call()).split("<main")[1]


def test_provenance_is_on_the_page(html: str, finished: Finished) -> None:
    store, case = finished
    manifest = store.manifest(case.by_seed[0].recipes[0].scores["easy"])
    assert manifest is not None
    assert f"numpy {manifest.versions['numpy']}" in re.sub(r"\s+", " ", html)
