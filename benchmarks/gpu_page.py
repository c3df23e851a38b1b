"""The section of a page that ``gpu.py`` writes from its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN = "<!-- `make gpu` writes what follows -->"
END = "<!-- `make gpu` writes up to here -->"
Result = dict[str, Any]


def write_page(page: Path, results: Result) -> None:
    """Replace what stands between the marks of ``page``, or write a page of its own."""
    text = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"error: {page} lacks the lines {BEGIN!r} and {END!r}, between which the section stands")
    page.write_text(f"{before}{BEGIN}\n{section(results)}{END}{after}")


def section(results: Result) -> str:
    """The text of the section."""
    machine, checks = results["machine"], results["checks"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commits = ", ".join(dict.fromkeys(commit for check in checks.values() for commit in check["commits"]))
    lines = [
        f"`make gpu` on {results['date']}: {machine['gpu']}, driver {machine['driver'] or 'none'}, "
        f"commit {commits or 'none'}.",
        f"Versions: {versions}.",
        "",
    ]
    for part, rows in (("correctness", correctness), ("speed", speed), ("size", size)):
        chosen = {name: check for name, check in checks.items() if check["part"] == part}
        if chosen:
            lines += [f"### {part.capitalize()} on one GPU", "", *rows(chosen), *unfinished(chosen)]
    return "\n".join(lines)


def unfinished(checks: Result) -> Iterator[str]:
    """A line for each check that failed or was left out."""
    for name, check in checks.items():
        if check["status"] != "passed":
            yield f"- **{name}: {check['status']}.** {plain(check['why'])}"
    if any(check["status"] != "passed" for check in checks.values()):
        yield ""


def correctness(checks: Result) -> Iterator[str]:
    yield from table("check", "result", "figures", "time")
    for name, check in checks.items():
        for test in check["figures"].get("tests", []):
            figures = "; ".join(f"{key} {value}" for key, value in test["figures"].items())
            label = test["name"].rpartition("::")[2].removeprefix("test_")
            yield row(f"`{label}`", test["outcome"], figures or test["why"], f"{test['seconds']:.1f} s")
        if name != "tests":
            yield row(name, check["status"], "", f"{check['seconds']:.0f} s")
    yield ""


def speed(checks: Result) -> Iterator[str]:
    yield from table(
        "contender, size", "useful tokens/s", "all tokens/s", "MFU", "peak memory", "steps", "attention, loss",
        "checkpointing",
    )  # fmt: skip
    measured = {name: check["figures"] for name, check in checks.items() if check["status"] == "passed"}
    profiles = {name: figures["profile"] for name, figures in measured.items() if figures.get("profile")}
    for name, figures in measured.items():
        if name in profiles:
            continue
        mfu = "" if figures["mfu"] is None else f"{100 * figures['mfu']:.0f} %"
        yield row(
            name, f"{figures['tokens_per_s']:.0f}", f"{figures['all_tokens_per_s']:.0f}", mfu,
            gb(figures["peak_bytes"]), str(figures["steps"]), f"{figures['attention']}, {figures['loss']}",
            figures["checkpointing"],
        )  # fmt: skip
    yield ""
    for size in [name.split()[1] for name in measured if name.startswith("micota ")]:
        if peer := measured.get(f"trl {size}"):
            ours = measured[f"micota {size}"]
            yield (
                f"{size} against TRL: {ours['tokens_per_s'] / peer['tokens_per_s']:.2f} times the useful tokens/s, "
                f"{ours['peak_bytes'] / peer['peak_bytes']:.2f} of its memory."
            )
    for name, shares in profiles.items():
        parts = sorted(shares.items(), key=lambda item: -item[1])
        yield f"Time of a step, {name}: {', '.join(f'{key} {100 * share:.0f} %' for key, share in parts)}."
    yield ""


def size(checks: Result) -> Iterator[str]:
    yield from table(
        "size", "precision, optimiser", "allocated", "reserved", "estimate", "machine's memory at the end", "its peak",
        "all tokens/s",
    )  # fmt: skip
    for name, check in checks.items():
        if check["status"] != "passed":
            continue
        figures = check["figures"]
        yield row(
            name.removeprefix("memory "), figures["settings"], gb(figures["peak_bytes"]), gb(figures["reserved_bytes"]),
            gb(figures["estimated_bytes"]), gb(figures["host_bytes"]), gb(figures["host_peak_bytes"]),
            f"{figures['all_tokens_per_s']:.0f}",
        )  # fmt: skip
    yield ""


def table(*columns: str) -> list[str]:
    return [row(*columns), f"|{'---|' * len(columns)}"]


def row(*cells: str) -> str:
    return f"| {' | '.join(plain(cell) for cell in cells)} |"


def plain(text: str) -> str:
    """Text that stands in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def gb(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.1f} GB"
