"""Tables as data: every number of the summary once, and formats that other programs read."""

import csv
import io

import pytest

from micota.artifacts.store import Store
from micota.report.collect import CaseReport, summarise
from micota.report.frames import export_files, exports, results_table, scores_frame, to_latex

Finished = tuple[Store, CaseReport]


def test_the_frame_has_every_number_in_percent(finished: Finished) -> None:
    summary = finished[1].summary
    frame = scores_frame([summary])
    assert len(frame) == 15 * 4
    micota = frame[(frame["model"] == "micota") & (frame["benchmark"] == "average")].iloc[0]
    recipe = summary.recipes[-1]
    assert recipe.difference is not None
    assert micota["accuracy"] == pytest.approx(100 * recipe.average.value)
    assert micota["difference_low"] == pytest.approx(100 * recipe.difference.low)
    assert micota["p_value"] == recipe.difference.p_value
    assert micota["num_seeds"] == 2 and micota["kind"] == "recipe"
    assert frame[frame["model"] == "teacher"]["p_value"].isna().all()


def test_published_numbers_stand_apart_from_ours(finished: Finished) -> None:
    store, case = finished
    summary = summarise(store, "micota", "tiny_student", case.by_seed, {"student": "qwen1.5b"})
    assert results_table(summary).loc["micota", "average"].endswith(" (33.0)")
    frame = scores_frame([summary]).query("benchmark == 'average'").set_index("model")
    assert frame.loc["strong", "published"] == 21.25
    assert frame.loc[["short", "TA after SFT"], "published"].isna().all()


def test_csv_reads_back(finished: Finished) -> None:
    summary = finished[1].summary
    rows = list(csv.DictReader(io.StringIO(export_files([summary])["results.csv"])))
    frame = scores_frame([summary])
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(frame["accuracy"].tolist(), abs=1e-3)


def test_markdown_has_a_row_for_every_model(finished: Finished) -> None:
    text = exports(finished[1].summary)["Markdown"]
    lines = text.splitlines()
    assert lines[0] == "| recipe | easy | medium | hard | average | sd of seeds | tokens | BPC |"
    assert lines[1].startswith("| --- | --: |")
    assert len(lines) == 2 + 15
    assert {line.count("|") for line in lines} == {9}


def test_latex_is_a_booktabs_table_without_bare_signs(finished: Finished) -> None:
    summary = finished[1].summary
    text = exports(summary)["LaTeX"]
    assert text.startswith("\\begin{tabular}{lrrrrrrr}\n\\toprule\n") and "\\bottomrule" in text
    assert "half\\_size & " in text and r"\textbf{" in text
    assert text.isascii()
    alone = results_table(summary).drop(index="micota")
    assert "textbf" not in to_latex(alone)


def test_files_hold_all_cases(finished: Finished) -> None:
    summary = finished[1].summary
    files = export_files([summary, summary])
    assert set(files) == {"results.md", "results.tex", "results.csv", "relative.csv", "gap_differences.csv"}
    assert files["results.md"].count("## tiny_student") == 2
