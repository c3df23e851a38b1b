"""The table of costs that ends a plan: one row for each command, and their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from micota.artifacts.store import Store
from micota.config import Config
from micota.console import new_table, print_table
from micota.costs.context import Context, Estimate
from micota.costs.machine import Machine, machine_of
from micota.costs.stages import UNKNOWN
from micota.graph.node import AnyNode
from micota.graph.stage import function, stage_of

NUMBERS = 61  # columns that the numbers take
LEAST_LABEL, MOST_LABEL = 18, 60
UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Row:
    """The estimates of the nodes that one command makes."""

    label: str
    estimates: Sequence[Estimate]
    on_gpu: bool

    @property
    def fits(self) -> bool:
        return not any(one.problems for one in self.estimates)

    @property
    def is_known(self) -> bool:
        """Whether the sizes of its models are known."""
        return not any(UNKNOWN in one.problems for one in self.estimates)

    @property
    def generated(self) -> float:
        return sum(one.generated for one in self.estimates)

    @property
    def trained(self) -> float:
        return sum(one.trained for one in self.estimates)

    @property
    def flops(self) -> float:
        return sum(one.flops for one in self.estimates)

    @property
    def seconds(self) -> float:
        """Seconds, one stage after the other."""
        return sum(one.seconds for one in self.estimates)

    @property
    def device_seconds(self) -> float:
        """Seconds of one GPU, without stages on the CPU beside it; on a machine without one, all seconds."""
        return sum(one.seconds * (one.devices if self.on_gpu else 1) for one in self.estimates)

    @property
    def devices(self) -> int:
        return max((one.devices for one in self.estimates), default=0)

    @property
    def memory(self) -> int:
        return max((one.memory for one in self.estimates), default=0)

    @property
    def disk(self) -> int:
        return sum(one.disk for one in self.estimates)

    @property
    def peak_disk(self) -> int:
        """What stays, and the most that one stage needs besides while it runs."""
        return self.disk + max((one.scratch for one in self.estimates), default=0)


@dataclass(frozen=True)
class Costs:
    """The costs of a graph on a machine."""

    machine: Machine
    rows: list[Row]
    num_measured: int
    context: Context

    @property
    def total(self) -> Row:
        """The sum, without what does not fit."""
        fitting = [one for row in self.rows for one in row.estimates if not one.problems]
        return Row("all", fitting, self.machine.accelerator == "gpu")

    @property
    def problems(self) -> dict[str, list[str]]:
        """What the machine cannot do, with what it cannot do it for."""
        found: dict[str, list[str]] = {}
        for one in (one for row in self.rows for one in row.estimates):
            for text in one.problems:
                names = found.setdefault(text, [])
                names += [one.name] if one.name not in names else []
        return found


def estimate(context: Context, node: AnyNode) -> Estimate:
    """The cost of one node; of a stage without an estimate, nothing."""
    path = stage_of(node).estimate
    found: Estimate = function(path)(context, node) if path else Estimate()
    return found


def costs_of(
    config: Config, store: Store, tasks: Sequence[tuple[str, Sequence[AnyNode]]], configs: Mapping[str, Config]
) -> Costs:
    """The costs of what is to be made.

    Args:
        tasks: the nodes of each command.
        configs: the config of each node, by folder, where it is not ``config``.

    Raises:
        ConfigError: the machine is not known.
    """
    context = Context(machine_of(config), store, config, configs)
    on_gpu = context.machine.accelerator == "gpu"
    rows = [
        Row(_label(command, nodes), [estimate(context, node) for node in nodes], on_gpu) for command, nodes in tasks
    ]
    measured = sum(one.is_measured for row in rows for one in row.estimates)
    return Costs(context.machine, rows, measured, context)


def _label(command: str, nodes: Sequence[AnyNode]) -> str:
    """A command and what it makes: data, a model, or the model that it evaluates."""
    last = nodes[-1]
    name = last.name.partition("@")[0] if last.benchmark or last.stage == "likelihood" else last.name
    if last.stage == "likelihood" and "completions" in {node.stage for node in nodes}:
        name = nodes[0].name.partition("@")[0]
    answered = next((node for node in nodes if node.benchmark is not None), None)
    if command == "evaluate" and answered is not None:
        name = answered.name.partition("@")[0]
    return f"{command} {name}"


def show_costs(costs: Costs, console: Console) -> None:
    """Print the table, what does not fit, and the assumptions."""
    machine, total = costs.machine, costs.total
    unit = "GPU" if machine.accelerator == "gpu" else "CPU"
    table = new_table(f"costs of what is to be made, on {machine.label}")
    table.add_column("command", no_wrap=True)
    for name in ("generate", "train", "FLOP", f"{unit} time", f"{unit}s x GiB", "disk"):
        table.add_column(name, justify="right", no_wrap=True)
    width = max(LEAST_LABEL, min(MOST_LABEL, console.width - NUMBERS))
    for row in costs.rows:
        table.add_row(shortened(row.label, width), *_cells(row), style="" if row.fits else "red")
    table.add_section()
    table.add_row("all", *_cells(total, peak=True), style="bold")
    print_table(console, table)
    for text, names in costs.problems.items():
        kind = "no price" if text == UNKNOWN else "does not fit"
        console.print(Text(f"{kind}: {', '.join(names)}: {text}", "red"), soft_wrap=False)
    slow = dict.fromkeys(
        f"slow: {one.name}: {one.slow}" for row in costs.rows for one in row.estimates if one.slow and not one.problems
    )
    for text in slow:
        console.print(Text(text, "yellow"), soft_wrap=False)
    for line in notes(costs):
        console.print(Text(line, "dim"), soft_wrap=False)


def _cells(row: Row, *, peak: bool = False) -> list[str]:
    disk = row.peak_disk if peak else row.disk
    return [
        number(row.generated),
        number(row.trained),
        number(row.flops),
        duration(row.device_seconds) if row.fits else "no fit" if row.is_known else "unknown",
        f"{row.devices or 1} x {row.memory / 2**30:.1f}" if row.memory else "-",
        f"{number(disk)}B" if disk else "-",
    ]


def notes(costs: Costs) -> list[str]:
    """What the numbers mean and which of them are assumed."""
    machine, cost, total = costs.machine, costs.context.cost, costs.total
    stages = sum(len(row.estimates) for row in costs.rows)
    lines = [f"generate, train: tokens. One stage after the other takes {duration(total.seconds)}."]
    if checkpoints := total.peak_disk - total.disk:
        lines[0] += f" Disk of all is with the checkpoints of the largest training ({number(checkpoints)}B)."
    if costs.problems:
        lines[0] += " The last line of the table is the sum of what fits."
    lines += dict.fromkeys(one.note for row in costs.rows for one in row.estimates if one.note)
    if price := sum(one.price for one in total.estimates):
        lines.append(f"Completions of APIs cost {price:.3g} in all, by engine.chat.prompt_price and completion_price.")
    if costs.num_measured:
        lines.append(f"Measured on this machine: the speeds of {costs.num_measured} of {stages} stages.")
    if costs.num_measured < stages:
        lines.append(
            f"Assumed speeds: {machine.peak_flops / 1e12:g} TFLOP/s and {machine.bandwidth / 1e9:g} GB/s a device; "
            f"training reaches {machine.training:.0%} of the peak, prompts {machine.prefill:.0%}, generation "
            f"{machine.decode:.0%} of peak or bandwidth (transformers: {machine.hf:.0%}). "
            "Change them with hardware.KEY=VALUE."
        )
    lines.append(
        f"Assumed where no artifact shows it: {cost.long_tokens:g} tokens a long chain, {cost.middle_tokens:g} one of "
        f"a merged TA, {cost.short_tokens:g} a short one, {cost.prompt_tokens:g} a prompt; {cost.kept_share:.0%} pass "
        "the filters. Change them with cost.KEY=VALUE."
    )
    return lines


def number(value: float) -> str:
    """Three digits with a letter: ``48.0M``, ``8.84E``; a dash for nothing."""
    for size, letter in UNITS:
        if value >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.0f}{letter}" if scaled >= 99.95 else f"{scaled:.3g}{letter}"
    return "-" if value < 0.5 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """``31 s``, ``12 min``, ``5.4 h``, ``1200 h``."""
    if seconds < 0.5:
        return "-" if not seconds else "<1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 99.95 else f"{hours:.0f} h"


def shortened(text: str, width: int) -> str:
    """A text cut in its middle."""
    if len(text) <= width:
        return text
    left = (width - 1) * 2 // 3
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"
