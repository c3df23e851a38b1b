"""The model card: how a model was made and how it scored. Every number names its artifact and the command behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from micota.artifacts.left_out import each_manifest
from micota.artifacts.provenance import versions
from micota.artifacts.store import Store
from micota.config import Call, command_line
from micota.data.datacard import HUB_ID, TAGS
from micota.graph import unique
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of
from micota.visible import inline_code, plain_markdown

SHARES = ("accuracy", "accuracy_low", "accuracy_high")  # from 0 to 1


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a card: what it is, its value, the folder of its artifact, and the command that makes it."""

    what: str
    value: str
    artifact: str
    command: str


def model_card(store: Store, node: AnyNode, call: Call) -> str:
    """The card of a finished model as Markdown, with the front matter of the hub.

    Raises:
        ArtifactError: the model, or an artifact that it was made from, is damaged.
    """
    numbers = [*_of_making(store, node, call), *_of_evaluations(store, node)]
    lines = [
        "---", _front_matter(node), "---", "", f"# {node.name}", "",
        f"{_origin(node)} Made by micota; key `{node.key}`.",
        "", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        'model = AutoModelForCausalLM.from_pretrained("THIS REPOSITORY", dtype="auto")',
        'tokenizer = AutoTokenizer.from_pretrained("THIS REPOSITORY")', "```", "", "## Numbers", "",
        "Each number is in `manifest.json` of its artifact, and its command makes it again.", "",
        "| | value | artifact | command |", "|---|---|---|---|",
        *map(_row, numbers),
    ]  # fmt: skip
    if not any(item.artifact.startswith("scores/") for item in numbers):
        lines += [
            "",
            "The model was not evaluated before this upload; the same command uploads a card with its scores.",
        ]
    lines += ["", "## Made from", "", "| artifact | | command |", "|---|---|---|", *_lineage(store, node, call)]
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    lines += ["", f"Versions at the upload: {used}. Those of each artifact are in its manifest.", ""]
    return "\n".join([*lines, "The licences of the base model and of the training data apply.", ""])


def _row(item: Number) -> str:
    return f"| {plain_markdown(item.what)} | {item.value} | `{item.artifact}` | {inline_code(item.command)} |"


def _front_matter(node: AnyNode) -> str:
    """The YAML metadata for the hub. It names no licence, as that of the data card does not."""
    from huggingface_hub import ModelCardData

    bases = [source.spec.path for source in _sources(node)]
    on_hub = [path for path in bases if HUB_ID.fullmatch(path) and not Path(path).exists()]
    data = ModelCardData(
        base_model=on_hub or None,
        base_model_relation=("merge" if node.stage == "merge" else "finetune") if on_hub else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=list(TAGS),
    )
    return str(data.to_yaml())


def _sources(node: AnyNode) -> list[AnyNode]:
    """The models from outside whose weights are in ``node``, each once."""
    found: dict[str, AnyNode] = {}
    for child in node.inputs.values():
        if child.is_source:
            found[child.key] = child
        elif child.kind == "models":
            found |= {source.key: source for source in _sources(child)}
    return list(found.values())


def _origin(node: AnyNode) -> str:
    names = " and ".join(inline_code(source.spec.path) for source in _sources(node))
    return f"A merge of models tuned from {names}." if node.stage == "merge" else f"{names}, fine-tuned."


def _of_making(store: Store, node: AnyNode, call: Call) -> Iterator[Number]:
    """The counts and metrics of a model, and of the training data it was made from."""
    for made in unique([node]):
        if made is node or made.kind in ("models", "data"):
            manifest = store.manifest(made)
            of = "" if made is node else f" of {made.name}"
            yield from () if manifest is None else (
                Number(what=name.replace("_", " ") + of, value=f"{value:g}", artifact=made.folder,
                       command=command_line(call, made.command, made.choose))
                for name, value in {**manifest.counts, **manifest.metrics}.items()
            )  # fmt: skip


def _of_evaluations(store: Store, node: AnyNode) -> Iterator[Number]:
    """The scores of a model on every benchmark that graded it, from the store."""
    every = each_manifest(store.root, "completions")
    answers = {m.key: m for m in every if m.inputs.get("model", {}).get("key") == node.key}
    for scores in each_manifest(store.root, "scores"):
        if scores.inputs["completions"]["key"] in answers and all(name in scores.metrics for name in SHARES):
            share, low, high = (f"{100 * scores.metrics[name]:.1f}" for name in SHARES)
            sampling = answers[scores.inputs["completions"]["key"]].config["sampling"]
            benchmark = scores.name.rpartition("@")[2]
            what = (
                f"accuracy on {benchmark} in %, by {scores.config['grader']}, temperature {sampling['temperature']:g}"
            )
            yield Number(
                what=f"{what} (95 % interval)", value=f"{share} ({low} to {high})",
                artifact=f"scores/{scores.name}-{scores.key}", command=scores.command or "-",
            )  # fmt: skip


def _lineage(store: Store, node: AnyNode, call: Call) -> Iterator[str]:
    """A row for each artifact and each model from outside that a model was made from, inputs first."""
    seen: set[str] = set()
    for made in node.walk():
        if made.folder in seen:
            continue
        seen.add(made.folder)
        manifest = None if made.is_source else store.manifest(made)
        counts = {**manifest.counts, **manifest.metrics} if manifest else {}
        command = "" if made.is_source else inline_code(command_line(call, made.command, made.choose))
        yield f"| `{made.folder}` | {plain_markdown(stage_of(made).describe(made, counts))} | {command} |"
