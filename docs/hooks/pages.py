"""Pages of the site that are generated from the code: commands, keys, options, merge methods, stages, CONTRIBUTING.md.

MkDocs calls ``on_files`` when it builds the site. Nothing here is written to the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import micota.data.filters
import micota.data.shapes
import micota.engines
import micota.grading.graders
import micota.stages.registry  # noqa: F401  (entries of all tables)
from micota.api import compose
from micota.config import COMMANDS, ENGINES, FILTERS, GRADERS, MERGE_METHODS, TOOLS
from micota.config.reference import keys_alone, reference, table
from micota.config.shapes import ALWAYS, SHAPES
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
        "reference/tables.md": tables(),
    }


def contributing() -> str:
    """CONTRIBUTING.md of the repository, with its links into ``docs/`` as links of the site."""
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")


def commands() -> str:
    """Every command with its examples and the keys that it alone has."""
    text = [
        "# Commands\n",
        "Every command composes the same [keys](keys.md) and [options](options.md).",
        "So each reads the artifacts of the others.",
        "`plan=true` prints the artifacts that a command would make, and makes none.",
        "`-m` runs a sweep over comma-separated values.\n",
    ]
    for name, command in COMMANDS.items():
        examples = [f"micota {name} {example}" for example in command.examples]
        text += [f"## {name}\n", f"{command.about}\n", "```text", *examples, "```\n"]
        specific = keys_alone(name)
        text += ["Keys of this command alone:\n", *table(specific), ""] if specific else ["It has no such keys.\n"]
    for name, tool in TOOLS.items():
        examples = [f"micota {name} {example}" for example in tool.examples]
        text += [f"## {name}\n", f"{tool.about}\n", "```text", *examples, "```\n"]
    return "\n".join(text)


def keys() -> str:
    """Every key of every command: meaning, unit, type, what is accepted, default, and whether it changes results."""
    text = [
        "# Configuration keys\n",
        "A default is what a command uses without any override: the setting of the paper.",
        "`experiment=tiny` and other options set other values; `--cfg job` prints what a command uses.",
        "Another value of a key that changes results makes another artifact.",
        "Another value of any other key makes the same one.\n",
    ]
    return "\n".join([*text, reference({name: compose([], command=name) for name in COMMANDS})])


def description(owner: Any) -> str:
    return re.sub(r"``([^`]*)``", r"`\1`", " ".join((owner.__doc__ or "").split()))


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
    """Every merge method with its source and the settings of its option."""
    text = ["# Merge methods\n", "`merge=OPTION` chooses one.", "[How to merge](../how-to/merge.md) has examples.\n"]
    text += ["| option | what it does | pruning | elects signs | depends on the seed | rescaling | settings |"]
    text += ["|---|---|---|---|---|---|---|"]
    for method in MERGE_METHODS.values():
        settings = ", ".join(f"`{key}: {value}`" for key, value in method.settings.items())
        rescalings = ", ".join(f"`{name}`" for name in method.rescalings)
        cells = [method.summary, method.pruning or "", yes(method.elects_signs), yes(method.samples), rescalings]
        text.append("| " + " | ".join([f"`{method.name}`", *cells, settings]) + " |")
    text += ["", "Files of `conf/merge/` choose a method with further settings:\n", "| option | |", "|---|---|"]
    text += [f"| `{path.stem}` | {heading(path)} |" for path in sorted((CONF / "merge").glob("*.yaml"))]
    return "\n".join(text)


def tables() -> str:
    """Filters, graders, engines and shapes of rows, from their tables."""
    text = ["# Filters, graders, engines, rows\n", "## Filters\n"]
    text += ["`select.filters` lists filters in their order.\n"]
    text += ["| filter | what it does | settings below `select` | reasons in the manifest |", "|---|---|---|---|"]
    for entry in FILTERS.values():
        cells = [f"`{entry.name}`", description(entry.open), quoted(entry.settings), quoted(entry.reasons)]
        text.append("| " + " | ".join(cells) + " |")
    text += ["", "## Graders\n", "`evaluation.grader` names the score.", "[Graders](graders.md) explains them.\n"]
    text += [", ".join(f"`{name}`" for name in GRADERS) + "\n"]
    text += ["## Engines\n", "[Generate](../how-to/generate.md#choose-an-engine) explains them.\n"]
    text += ["| engine | settings below `engine` | its name in keys of completions | can measure merges in memory |"]
    text += ["|---|---|---|---|"]
    for kind in ENGINES.values():
        cells = [f"`{kind.name}`", quoted(kind.settings), f"`{kind.numerics or kind.name}`", yes(kind.takes_weights)]
        text.append("| " + " | ".join(cells) + " |")
    text += ["", "## Rows\n", "A row at `data.path` has the first of these shapes whose fields it has."]
    text += ["A field is in the first of its columns that the row has; `data.columns` names another."]
    text += [f"Every shape may have {fields_in_words(ALWAYS)}.\n", "| shape | | fields | also |", "|---|---|---|---|"]
    for shape in SHAPES.values():
        cells = [shape.name, shape.about, fields_in_words(shape.needs), fields_in_words(shape.takes)]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def fields_in_words(columns: Mapping[str, tuple[str, ...]]) -> str:
    """Each field, and in brackets the columns that may hold it where they are not just its name."""
    shown = {name: [column for column in known if column != name] for name, known in columns.items()}
    return "; ".join(f"`{name}`" + (f" ({quoted(others)})" if others else "") for name, others in shown.items())


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def yes(answer: bool) -> str:
    return "yes" if answer else "no"


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
