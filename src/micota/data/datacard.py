"""The data card: contents of a data set, how it was made and how many completions were dropped, as JSON and page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from micota.artifacts.provenance import versions
from micota.config import SourceConfig
from micota.config.rows import RowsConfig
from micota.data.mixtures import AnyExample
from micota.graph import CompletionsSpec, DataSpec, FilteredSpec, MostLikelySpec, RowsSpec, weights_of
from micota.graph.node import AnyNode
from micota.records import DATA
from micota.visible import inline_code, plain_markdown

CARD, CARD_PAGE = "card.json", "README.md"  # the hub shows a README as the card of a data set
TAGS = ("micota", "reasoning", "distillation")
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")  # the hub's names
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/(?!.*\.jsonl?$)[\w.-]+")
PERCENTILES = (0, 10, 25, 50, 75, 90, 100)
# By ``select_by``, what is least under the model that measured the candidates.
LEAST = {
    "student_bpc": "fewest bits per byte under the student",
    "student_rsr": "lowest rank-surprisal ratio under the student",
}
ROWS = f"""
## Rows

`{DATA}`: `problem_id`, `messages` (chat), `completion` (the target), `num_tokens` (of the target), `source` (recipe).
`manifest.json` has all settings and versions. The licences of the problems and of the model that generated the
completions apply.
"""


def card(node: AnyNode, counts: Mapping[str, int], examples: Sequence[AnyExample]) -> dict[str, Any]:
    """Return the card as JSON. ``counts`` are those of the artifact; ``num_tokens`` has percentiles of examples, each
    the nearest observed value below."""
    spec: DataSpec = node.spec
    lengths = [example.num_tokens for example in examples]
    prefix = "dropped_"
    return {
        "name": node.name,
        "key": node.key,
        "num_examples": len(examples),
        "num_problems": len({example.problem_id for example in examples}),
        "num_tokens": {"total": sum(lengths), "mean": sum(lengths) / len(lengths)}
        | {f"p{rank}": int(np.percentile(lengths, rank, method="lower")) for rank in PERCENTILES},
        "sources": dict(Counter(example.source for example in examples)),
        "problems": _location(spec.problems),
        "prompt": asdict(spec.prompt),
        "select": asdict(spec.select),
        "decontaminate_against": _decontaminated(spec),
        "seed": spec.seed,
        "completions": counts.get("completions"),
        "dropped": {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)},
        "weights": weights_of(spec),
        "select_by": spec.select_by if isinstance(spec, MostLikelySpec) else None,
        "made_from": [_origin(label, child) for label, child in node.inputs.items()],
        "rows_of": _location(spec.rows) if isinstance(spec, RowsSpec) else None,
        "not_checked": counts.get("not_checked", 0),
        "versions": versions(),
    }


def _location(source: SourceConfig | RowsConfig | None) -> dict[str, Any] | None:
    names = ("path", "revision", "subset", "split")
    return None if source is None else {name: getattr(source, name) for name in names}


def _decontaminated(spec: DataSpec) -> list[str]:
    return sorted(spec.decontaminate_against) if isinstance(spec, FilteredSpec | RowsSpec) else []


def _origin(label: str, node: AnyNode) -> dict[str, Any]:
    """Describe one input; for completions also their generator and its sampling."""
    origin: dict[str, Any] = {"label": label, "kind": node.kind, "name": node.name, "key": node.key}
    if isinstance(node.spec, CompletionsSpec):
        generator = node.inputs["model"]
        origin["generator"] = {"name": generator.name, "key": generator.key}
        if generator.is_source:
            origin["generator"] |= {"path": generator.spec.path, "revision": generator.spec.revision}
        origin |= {"sampling": asdict(node.spec.sampling), "engine": node.spec.engine, "dtype": node.spec.dtype}
        origin["prompt"] = asdict(node.spec.prompt)
    return origin


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown, with the front matter that names the rows to the hub."""
    tokens = card["num_tokens"]
    lines = [
        "---", _front_matter(card), "---", "", f"# {card['name']}", "",
        f"{card['num_examples']} examples on {card['num_problems']} problems{_of(card['problems'])}, "
        f"{tokens['total']} tokens in their completions. "
        f"Made by micota; key `{card['key']}`.",
        "", "| tokens a completion | mean | " + " | ".join(f"{rank} %" for rank in PERCENTILES) + " |",
        "|---" * (len(PERCENTILES) + 2) + "|",
        f"| | {tokens['mean']:.1f} | " + " | ".join(str(tokens[f"p{rank}"]) for rank in PERCENTILES) + " |",
        "", "## Generators", "",
        *(_origin_line(origin) for origin in card["made_from"]),
        *([f"- rows{_of(card['rows_of'])}"] if card["rows_of"] else []),
    ]  # fmt: skip
    if card["weights"]:
        mixed = ", ".join(f"{label} {weight:g}" for label, weight in card["weights"].items())
        lines += ["", f"Mixed by weight: {mixed}."]
    if card["select_by"]:
        lines += ["", f"One completion per problem: the one with the {LEAST[card['select_by']]}."]
    if "match" in card:
        lines += _matched(card["match"])
    if card["completions"] is not None:
        lines += [
            "",
            "## What was dropped",
            "",
            "| | completions |",
            "|---|---|",
            f"| {'read' if card['rows_of'] else 'sampled'} | {card['completions']} |",
        ]
        lines += [f"| {reason.replace('_', ' ')} | -{number} |" for reason, number in card["dropped"].items()]
        kept = card["completions"] - sum(card["dropped"].values())
        lines += [f"| passed | {kept} |", f"| chosen | {card['num_examples']} |"]
        lines += ["", f"Filters, in order: {', '.join(card['select']['filters']) or 'none'}."]
        if card["not_checked"]:
            lines += [f"Not checked: {card['not_checked']} rows have no gold answer, and are kept as they are."]
        decontaminate_against = ", ".join(card["decontaminate_against"])
        lines += (
            [f"Problems of {decontaminate_against} are left out ({card['select']['decontaminate']})."]
            if decontaminate_against
            else []
        )
    return "\n".join([*lines, ROWS])


def _of(location: Mapping[str, Any] | None) -> str:
    """`` of `PATH` (SPLIT)``; empty where there is no location."""
    return f" of {inline_code(location['path'])} ({plain_markdown(location['split'])})" if location else ""


def _front_matter(card: Mapping[str, Any]) -> str:
    """Return the YAML metadata for the hub. It names no licence: the licences of the problems and of the generators
    apply and are unknown here, and a wrong one is worse than none."""
    from huggingface_hub import DatasetCardData

    source = str((card["problems"] or card["rows_of"] or {}).get("path", "")).removeprefix("hub:")
    data = DatasetCardData(
        pretty_name=card["name"],
        tags=list(TAGS),
        task_categories=["text-generation"],
        size_categories=[size_category(card["num_examples"])],
        # The hub links owner/name only; a file and the bundled problems are no data set of the hub.
        source_datasets=[f"extended|{source}"] if HUB_ID.fullmatch(source) else None,
        configs=[{"config_name": "default", "data_files": DATA}],
    )
    return data.to_yaml()


def size_category(num_examples: int) -> str:
    """Return the hub's name of a size: powers of ten, from 1,000 on."""
    return SIZES[min(len(SIZES) - 1, max(0, len(str(num_examples)) - 3))]


def _matched(match: Mapping[str, Any]) -> list[str]:
    """Return lines on what each recipe of a comparison dropped so that all have the same problems or as many tokens."""
    by = {"problems": "the problems that every generator solved", "tokens": "number of tokens"}[match["by"]]
    lines = ["", f"## Matched with other recipes by {by}", ""]
    if match["by"] == "problems":
        lines += ["| generator | passed | dropped: not solved by all | problems that only it did not solve |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {label} | {row['passed']} | {-row['lost']} | {row['alone_lacks']} |"
            for label, row in match["generators"].items()
        ]
    else:
        lines += [f"At most {match['budget_tokens']} tokens, the number of the smallest recipe."]
    lines += ["", "| recipe | examples | tokens | examples dropped to match |", "|---|---|---|---|"]
    return lines + [
        f"| {recipe} | {row['num_examples']} | {row['num_tokens']} | {-row['lost_to_budget']} |"
        for recipe, row in match["recipes"].items()
    ]


def _origin_line(origin: Mapping[str, Any]) -> str:
    if "generator" not in origin:
        return f"- {origin['label'].replace('_', ' ')}: {origin['kind']} `{origin['name']}` (key `{origin['key']}`)"
    generator, sampling = origin["generator"], origin["sampling"]
    sampled = (
        f"temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}, "
        f"at most {sampling['max_tokens']} tokens, {sampling['num_samples']} sample(s) a problem"
    )
    model = inline_code(generator.get("path") or generator["name"])
    return f"- {model}: {sampled}, by {origin['engine']} in {origin['dtype']}"
