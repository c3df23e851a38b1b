"""How long the report page takes to open in a browser of a phone's size, with as many answers as it embeds at most.

    python benchmarks/page.py [--problems 100] [--stretch 8] [--slow 4]

The page is that of the toy experiment with made-up answers, each ``stretch`` times as long. ``slow`` divides the speed
of the browser's processor, as that of a phone. Seconds are of the processor (thread time of the main thread), so that
other work on the machine does not count. Needs chromium and the extra dev.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for the synthetic store

import synthetic_store

from micota.artifacts.store import Store
from micota.config import Call
from micota.report.page import render_page

PHONE = {"width": 390, "height": 844}
SHOWN = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration", "JSHeapUsedSize")


def page(folder: Path, problems: int, stretch: int) -> Path:
    """The page of a finished experiment with long answers."""
    answer = synthetic_store.answer

    def longer(*arguments: Any) -> Any:
        completion, score = answer(*arguments)
        return replace(completion, completion=completion.completion * stretch), score

    synthetic_store.answer = longer
    store = Store(folder / "artifacts")
    case = synthetic_store.case_report(store, seeds=(0,), limit=problems)
    file = folder / "index.html"
    file.write_text(render_page("tiny", [case], store, seed=0, call=Call()), encoding="utf-8")
    return file


def opened(file: Path, slow: float) -> dict[str, float]:
    """Seconds of the browser's main thread until the page is idle, and its memory."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium)
        view = browser.new_page(viewport=PHONE)
        view.set_default_timeout(60_000)
        session = view.context.new_cdp_session(view)
        session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        session.send("Performance.enable")
        session.send("Emulation.setCPUThrottlingRate", {"rate": slow})
        view.goto(file.as_uri())
        view.wait_for_selector("#problem *", state="attached")
        view.wait_for_selector(".plot .main-svg", state="attached")
        found = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return {name: found[name] for name in SHOWN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100, help="problems of each benchmark")
    parser.add_argument("--stretch", type=int, default=8, help="the length of answers, in those of the toy setting")
    parser.add_argument("--slow", type=float, default=1.0, help="by how much the browser is slowed down")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = page(Path(folder), options.problems, options.stretch)
        print(f"{file.stat().st_size / 1e6:.1f} MB")
        for name, value in opened(file, options.slow).items():
            print(f"{name}: {value / 2**20:.0f} MiB" if name.endswith("Size") else f"{name}: {value:.2f} s")


if __name__ == "__main__":
    main()
