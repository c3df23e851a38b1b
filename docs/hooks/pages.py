"""Pages of the site that are written from the code: commands, keys, options, merge methods, stages, CONTRIBUTING.md.

MkDocs calls ``on_files`` when it builds the site. Nothing here is written to the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import micota.stages.registry  # noqa: F401  (all stages)
from micota.config import COMMANDS, SCHEMAS
from micota.graph.stage import all_stages

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of ``docs/``."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """The generated pages by their path below ``docs/``."""
    return {
        "contributing.md": contributing(),
        "reference/commands.md": commands(),
        "reference/keys.md": keys(),
        "reference/merge-methods.md": merge_methods(),
        "reference/options.md": options(),
        "reference/stages.md": stages(),
    }


def contributing() -> str:
    """CONTRIBUTING.md of the repository, with its links into ``docs/`` as links of the site."""
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")


def commands() -> str:
    """Every command with its examples and the keys that it alone has."""
    text = [
        "# Commands\n",
        "Every command composes the same [keys](keys.md) and [options](options.md).",
        "So each finds what the others made.",
        "`plan=true` prints what a command would do and does nothing.",
        "`-m` runs a sweep over comma-separated values.\n",
    ]
    shared = {item.name for item in fields(SCHEMAS["generate"].__mro__[1])}
    for name, command in COMMANDS.items():
        examples = [f"micota {name} {example}" for example in command.examples]
        text += [f"## {name}\n", f"{command.about}\n", "```text", *examples, "```\n"]
        own = [item for item in rows(command.schema) if item[0].split(".")[0] not in shared]
        text += ["Keys of this command alone:\n", *table(own)] if own else ["It has no keys of its own.\n"]
    return "\n".join(text)


def table(items: list[tuple[str, str, str]]) -> list[str]:
    """Keys as a Markdown table."""
    lines = [f"| `{key}` | {default} | {accepted} |" for key, default, accepted in items]
    return ["| key | default of the schema | accepted |", "|---|---|---|", *lines, ""]


def keys() -> str:
    """Every key that all commands share, by the part of the configuration it belongs to."""
    text = [
        "# Configuration keys\n",
        "The defaults here are those of the schema.",
        "The files of `conf/` set others; `--cfg job` prints what a command uses.\n",
    ]
    schema = SCHEMAS["generate"].__mro__[1]
    hints = get_type_hints(schema)
    top = [item for item in rows(schema) if "." not in item[0]]
    text += ["## Top level\n", *table(top)]
    for item in fields(schema):
        owner = child(hints[item.name])
        if owner is not None:
            text += [f"## {item.name}\n", f"{description(owner)}\n", *table([*rows(owner, f"{item.name}.")])]
    return "\n".join(text)


def description(owner: type[Any]) -> str:
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join((owner.__doc__ or "").split()))


def rows(owner: type[Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """The fields below a schema: dotted key, default, and what is accepted."""
    hints = get_type_hints(owner)
    for item in fields(owner):
        below = child(hints[item.name])
        if below is not None:
            if path:
                yield from rows(below, f"{path}{item.name}.")
            continue
        value = item.default_factory() if item.default_factory is not MISSING else item.default
        default = "required" if value is MISSING else f"`{value}`"
        kind = getattr(hints[item.name], "__name__", str(hints[item.name])).replace("|", "or")
        yield f"{path}{item.name}", default, str(item.metadata.get("accepted", kind)).replace("|", "or")


def child(kind: Any) -> Any:
    """The schema of a field that is one, or that may be one, or that is a map of such; else None."""
    return next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)


def options() -> str:
    """The options of every group with the comment that heads its file."""
    text = [
        "# Options of the groups\n",
        "`GROUP=OPTION` chooses one of these files below `conf/`, as `student=qwen1.5b` or `bench=[aime24,gsm8k]`.\n",
    ]
    for group in sorted(path for path in CONF.iterdir() if path.is_dir()):
        text += [f"## {group.name}\n", "| option | |", "|---|---|"]
        for path in sorted(group.rglob("*.yaml")):
            if not path.name.startswith("_"):
                text.append(f"| `{path.relative_to(group).with_suffix('')}` | {heading(path)} |")
        text.append("")
    return "\n".join(text)


def heading(path: Path) -> str:
    """The comment at the top of a YAML file, or the model that it names."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#") and "@package" not in line]
    named = [line.partition(": ")[2] for line in lines if line.startswith("path: ")]
    return (" ".join(comments) or ", ".join(f"`{name}`" for name in named)).replace("|", "\\|")


def merge_methods() -> str:
    """Every merge method with its formula's source and settings."""
    text = ["# Merge methods\n", "`merge=OPTION` chooses one.", "[How to merge](../how-to/merge.md) has examples.\n"]
    text += ["| option | what it does | settings |", "|---|---|---|"]
    for path in sorted((CONF / "merge").glob("*.yaml")):
        settings = [line.split("  #")[0].split(" #")[0] for line in path.read_text().splitlines() if ": " in line]
        named = [f"`{line}`" for line in settings if not line.startswith(("#", " ", "defaults", "method"))]
        text.append(f"| `{path.stem}` | {heading(path)} | {', '.join(named)} |")
    return "\n".join(text)


def stages() -> str:
    """Every kind of node with the settings that determine its key."""
    text = [
        "# Stages\n",
        "A stage makes one kind of artifact.",
        "The key of an artifact is a hash of its settings below and of the keys of its inputs.",
        "[CONTRIBUTING](../contributing.md) shows how to add a stage.\n",
    ]
    for stage in all_stages():
        text += [f"## {stage.name}\n", f"{stage.label}; section `{stage.section}/` in the tracker.\n"]
        text += ["| settings | folder | fields | |", "|---|---|---|---|"]
        for spec in stage.specs:
            names = ", ".join(f"`{item.name}`" for item in fields(spec))
            text.append(f"| `{spec.__name__}` | `artifacts/{spec.kind}/` | {names} | {description(spec)} |")
        text.append("")
    return "\n".join(text)
