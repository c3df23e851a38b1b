"""The command generate: it makes the data of one recipe, prints counts of its rows and can upload it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from micota import graph
from micota.artifacts.store import Store
from micota.cli.show_prompts import show_prompts
from micota.config import GenerateConfig
from micota.console import WideTable, new_table, open_console, print_table
from micota.data.datacard import CARD
from micota.data.hub import check_hub, push
from micota.graph.node import AnyNode
from micota.graph.specs import RowsSpec
from micota.runtime.execute import execute


def make_recipe(config: GenerateConfig) -> None:
    """Make the data of the recipe and print its counts; or show prompts or a plan, and make nothing."""
    console = open_console()
    if config.show_prompts and not config.plan:
        show_prompts(config, console)
        return
    node = graph.student_data(config)
    account = check_hub(config.push_to_hub) if config.push_to_hub and not config.plan else None
    execute(config, "generate", [node], console)
    if config.plan:
        return
    store = Store(config.artifacts)
    for table in accounts(store, node):
        print_table(console, table)
    if account is not None:
        console.print(f"uploaded: {push(config, account, store, node)}")


def accounts(store: Store, node: AnyNode) -> Iterator[WideTable]:
    """Tables of kept and dropped rows: one by generator, and one by recipe where recipes are matched."""
    match = json.loads((store.verified(node) / CARD).read_text(encoding="utf-8")).get("match")
    pools = graph.parts_of(node) or {node.name: node}
    yield generators_table(store, pools, match["generators"] if match and match["by"] == "problems" else {})
    if match:
        yield recipes_table(match, node.name)


def generators_table(store: Store, pools: dict[str, AnyNode], lost: dict[str, dict[str, int]]) -> WideTable:
    """Completions of each generator: sampled, dropped for each reason, passed, and lost where another generator has
    none."""
    counts = {}
    for label, pool in pools.items():
        manifest = store.manifest(pool)
        counts[label] = manifest.counts if manifest is not None else {}
    reasons = sorted({name for counted in counts.values() for name in counted if name.startswith("dropped_")})
    is_read = all(isinstance(pool.spec, RowsSpec) for pool in pools.values())
    first, taken = ("rows of", "read") if is_read else ("generator", "sampled")
    table = _table("", first, taken, *(name.removeprefix("dropped_") for name in reasons), "passed")
    for column in ("lost_to_others", "it_alone_lacks") if lost else ():
        table.add_column(column.replace("_", " "), justify="right")
    for label, counted in counts.items():
        generator = generator_of(pools[label])
        cells = [counted.get("completions", counted["examples"]), *(-counted.get(name, 0) for name in reasons)]
        cells.append(counted.get("kept", counted["examples"]))
        if lost:
            cells += [-lost[label]["lost"], lost[label]["alone_lacks"]]
        table.add_row(generator if len(pools) == 1 else f"{label}: {generator}", *map(str, cells))
    return table


def generator_of(pool: AnyNode) -> str:
    """The model that generated the rows of a data artifact, or the file that they are from."""
    if isinstance(pool.spec, RowsSpec):
        return Path(str(pool.spec.rows.path)).name
    return pool.inputs["completions"].inputs["model"].name if "completions" in pool.inputs else pool.name


def recipes_table(match: dict[str, Any], chosen: str) -> WideTable:
    """The matched recipes; the row of ``chosen`` is bold."""
    by = "the problems that every generator solved" if match["by"] == "problems" else f"{match['budget_tokens']} tokens"
    table = _table(f"matched by {by}", "recipe", "examples", "tokens", "lost_to_budget")
    for recipe, row in match["recipes"].items():
        cells = row["num_examples"], row["num_tokens"], -row["lost_to_budget"]
        table.add_row(recipe, *map(str, cells), style="bold" if recipe == chosen else None)
    return table


def _table(title: str, first: str, *columns: str) -> WideTable:
    table = new_table(title)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    return table
