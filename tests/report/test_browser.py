"""The page in a real browser: pointing, clicking and typing, in a desktop window and in that of a phone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import thorough_after

from micota.analysis.lengths import reflections
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.config import Call
from micota.records import COMPLETIONS, Completion
from micota.report.collect import CaseReport
from micota.report.page import render_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; apt-get install chromium")
Finished = tuple[Store, CaseReport]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra dev")
    with playwright.sync_playwright() as api:
        opened = api.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(html: str, finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of one case, and that of four."""
    store, case = finished
    several = [
        replace(case, summary=replace(case.summary, labels={"student": student, "teacher": teacher}))
        for student in ("small", "large")
        for teacher in ("R1", "QwQ")
    ]
    folder = tmp_path_factory.mktemp("pages")
    (folder / "one.html").write_text(html, encoding="utf-8")
    (folder / "four.html").write_text(render_page("tiny", several, store, seed=0, call=Call()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("one", "four")}


@pytest.fixture(scope="module", params=thorough_after(1, [*SIZES]))
def size(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module", params=["one"])
def loaded(
    browser: Browser, size: str, files: dict[str, Path], request: pytest.FixtureRequest
) -> Iterator[tuple[Page, list[str]]]:
    """The page in a window of this size, and the errors and requests of the browser since."""
    context = browser.new_context(viewport=SIZES[size], color_scheme="light")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not local(request.url) else None)
    page.goto(files[request.param].as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page, complaints
    context.close()


@pytest.fixture
def opened(loaded: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page after loading; errors and requests while the test runs fail it."""
    page, complaints = loaded
    page.evaluate("element('lineage').close(); element('filter').value = 'all'; element('search').value = ''")
    page.evaluate("showCase(0); document.activeElement.blur(); scrollTo(0, 0)")
    page.emulate_media(media="screen")
    yield page
    assert complaints == []


def local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def place_of(page: Page) -> tuple[int, int]:
    """Position of the answer browser and number of matches."""
    position = re.fullmatch(r"(\d+) of (\d+)", page.inner_text("#position"))
    assert position
    return int(position[1]), int(position[2])


def test_page_fits_its_window(opened: Page, size: str) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    has_svg = opened.eval_on_selector_all(
        ".plot", "plots => plots.map(plot => plot.querySelectorAll('svg').length > 0)"
    )
    assert has_svg and all(has_svg)
    beyond = "svgs => svgs.filter(svg => svg.getBoundingClientRect().right > innerWidth)"
    wide = opened.eval_on_selector_all(".plot svg", beyond)
    assert wide == []


def test_page_fits_another_window(opened: Page, size: str) -> None:
    [other] = SIZES.keys() - {size}
    opened.set_viewport_size(SIZES[other])
    opened.wait_for_function(
        f"innerWidth == {SIZES[other]['width']} && document.documentElement.scrollWidth == innerWidth"
    )
    opened.set_viewport_size(SIZES[size])


def test_pointing_at_a_figure_tells_its_number(opened: Page, finished: Finished) -> None:
    recipe = finished[1].summary.recipes[-1]
    points = opened.locator(".plot[data-figure=accuracy] .scatterlayer .point")
    points.nth(
        points.count() - 4
    ).scroll_into_view_if_needed()  # the last recipe's average, before its three benchmarks
    points.nth(points.count() - 4).hover(force=True)
    hover = opened.locator(".plot[data-figure=accuracy] .hovertext").text_content()
    assert hover is not None
    assert hover.startswith(f"{recipe.name}, average: {100 * recipe.average.value:.1f} [")


def test_clicking_a_figure_opens_the_lineage(opened: Page) -> None:
    points = opened.locator(".plot[data-figure=accuracy] .scatterlayer .point")
    points.nth(points.count() - 1).click(force=True)
    assert opened.inner_text("#lineage-title").startswith("micota, hard: ")


def test_answers_are_filtered(opened: Page, finished: Finished) -> None:
    scores = {recipe.name: recipe for recipe in finished[1].by_seed[0].recipes}
    shown = opened.evaluate("answers.benchmark().problems.map(p => p.answers.map(a => a[0]))")
    names = list(scores)
    micota, instruct = names.index("micota"), names.index("instruct")
    assert place_of(opened) == (1, 12)
    opened.select_option("#filter", "pair")
    only = sum(row[micota] == "correct" and row[instruct] != "correct" for row in shown)
    assert place_of(opened) == (1, only) and 0 < only < 12
    opened.select_option("#first", label="strong")
    opened.select_option("#filter", "correct")
    assert place_of(opened)[1] == sum(row[names.index("strong")] == "correct" for row in shown)
    opened.select_option("#filter", "all")
    opened.fill("#search", opened.evaluate("answers.benchmark().problems[7].problem"))
    assert place_of(opened) == (1, 1)
    opened.fill("#search", "no problem has this text")
    assert opened.inner_text("#position") == "no match"
    opened.fill("#search", "")
    opened.select_option("#bench", label="hard")
    assert "/test_hard/" in opened.inner_text("#problem")


def test_a_problem_is_read_side_by_side(opened: Page, finished: Finished) -> None:
    store, case = finished
    assert opened.locator(".card").count() == 7  # the recipes
    opened.get_by_label("teacher", exact=True).check()
    assert opened.locator(".card").count() == 8
    opened.click("#next")
    opened.locator("#problem").click()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowLeft")
    assert place_of(opened) == (2, 12)
    node = case.by_seed[0].recipes[1].scores["easy"].inputs["completions"]
    completion = read_jsonl(store.path(node) / COMPLETIONS, Completion)[1].completion
    card = opened.locator(".card").nth(1)
    assert card.locator("pre").inner_text().split() == completion.split()
    count = sum(reflections(completion).values())
    assert card.locator("mark").count() == count > 1
    assert f"{count} reflection words" in card.locator("header").inner_text()


def test_every_number_is_walked_back(opened: Page, finished: Finished) -> None:
    case = finished[1]
    number = opened.locator("tr.method .value").first
    number.focus()
    opened.keyboard.press("Enter")
    assert opened.inner_text("#lineage-title") == f"micota, easy: {number.inner_text()}"
    stages = opened.locator("#lineage-steps .stage").all_inner_texts()
    assert stages[:3] == ["scores", "answers", "training"] and {"merge", "data", "model"} <= set(stages)
    assert "dare_ties, density 0.5, weight 0.5" in opened.inner_text("#lineage-steps")
    step = opened.locator("#lineage-steps li > details").nth(2)
    step.locator("summary").first.click()
    assert step.locator("code").first.inner_text() == "micota train data=micota experiment=tiny seed=0"
    assert case.by_seed[0].recipes[-1].scores["easy"].inputs["completions"].inputs["model"].folder in step.inner_text()
    opened.get_by_role("radio", name="1", exact=True).check()
    assert step.locator("code").first.text_content() == "micota train data=micota experiment=tiny seed=1"
    opened.keyboard.press("Escape")
    assert not opened.locator("#lineage").is_visible()
    assert number.evaluate("node => node === document.activeElement")


def test_arrows_go_from_number_to_number(opened: Page) -> None:
    stops = opened.locator(".results .value[tabindex='0']")
    assert stops.count() == 1
    row = opened.locator(".results tbody tr")
    row.nth(0).locator(".value").nth(0).focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowDown")
    assert (
        row.nth(1).locator(".value").nth(1).evaluate("node => node === document.activeElement && node.tabIndex === 0")
    )
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("ArrowLeft")
    assert row.nth(0).locator(".value").nth(0).evaluate("node => node === document.activeElement")
    assert stops.count() == 1


def test_counts_and_lengths_are_walked_back_too(opened: Page) -> None:
    tokens = opened.locator("tr.method .value[data-about='tokens per answer']").first
    tokens.click()
    assert opened.inner_text("#lineage-title") == f"micota, tokens per answer: {tokens.inner_text()}"
    assert opened.locator("#lineage-steps .stage").first.inner_text() == "scores"
    opened.keyboard.press("Escape")
    opened.locator("tr.method .value[data-about='truncated']").click()
    assert opened.inner_text("#lineage-title").startswith("micota, truncated: ")


def test_light_and_dark(opened: Page) -> None:
    def colours() -> tuple[str, str]:
        paper: str = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        ink: str = opened.evaluate("document.querySelector('.plot .xtitle').style.fill")
        return paper, ink

    light = colours()
    opened.click("#theme")
    dark = colours()
    assert light[0] == "rgb(255, 255, 255)" and dark[0] == "rgb(20, 23, 28)"
    assert light[1] != dark[1]
    opened.click("#theme")
    assert colours() == light


def test_keyboard_comes_in_by_the_skip_link(opened: Page) -> None:
    opened.reload()
    opened.wait_for_selector("html[data-ready]")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"


def test_paper_has_no_controls(opened: Page) -> None:
    opened.emulate_media(media="print")
    for hidden in ("#theme", "nav", "#controls", ".exports"):
        assert not opened.locator(hidden).first.is_visible()
    assert opened.locator(".results").first.is_visible()


@pytest.mark.parametrize("loaded", ["four"], indirect=True)
def test_cases_are_chosen_by_their_axes(opened: Page) -> None:
    titles = opened.locator(".case h3")
    assert [titles.nth(index).is_visible() for index in range(4)] == [True, False, False, False]
    opened.select_option("[data-axis=student]", "large")
    opened.select_option("[data-axis=teacher]", "QwQ")
    assert [titles.nth(index).is_visible() for index in range(4)] == [False, False, False, True]
    opened.locator(".case >> nth=3").locator(".plot svg").first.wait_for(state="attached")
    assert opened.locator(".plot.overview svg").count() > 0
    opened.get_by_role("button", name="small, R1").first.click()
    assert titles.first.is_visible()
    assert opened.input_value("[data-axis=student]") == "small"


@pytest.mark.parametrize("loaded", ["four"], indirect=True)
def test_a_gap_and_an_average_of_the_overview_are_walked_back(opened: Page) -> None:
    opened.locator(".plot.overview .scatterlayer .point").nth(1).click(force=True)  # strong minus short, of small, QwQ
    assert opened.inner_text("#lineage-title").startswith("strong, average minus short: ")
    opened.keyboard.press("Escape")
    average = opened.locator("[aria-label='table of all cases'] [data-case='1'][data-measure='average']").last
    average.click()
    assert opened.inner_text("#lineage-title") == f"micota, average: {average.inner_text()}"
