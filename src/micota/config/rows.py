"""The schema of training rows that no model of the experiment generates: files of the user and public sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from micota.config.fields import Words, choice, part, plain, positive, where, words
from micota.config.shapes import known_fields
from micota.config.thinking import ThinkingConfig

TURNS = ("all", "last")


def _published_tags() -> ThinkingConfig:
    return ThinkingConfig(open="<think>", close="</think>")


@dataclass(kw_only=True)
class RowsConfig:
    """Where training rows are and how they are read. Their columns show their shape."""

    path: str | None = where(
        "null, a file, a folder, hub:ORG/NAME or bundled:NAME.jsonl",
        lambda value: value is None or bool(value.strip()),
        None,
        about="Rows instead of a generator: a file (.jsonl, .json, .parquet, .csv, each also .gz), a folder of files, "
        "hub:ORG/NAME for a data set of the hub, or bundled:NAME.jsonl.",
        results=True,
    )
    revision: str | None = words(
        None, about="The commit, tag or branch on the hub; null: the newest.", results=True, of_path=True
    )
    fingerprint: str | None = plain(
        None,
        about="The hash of the file or folder, so that a changed one is another one.",
        results=True,
        of_path=True,
        internal=True,
    )
    subset: str | None = words(
        None,
        about="The configuration of a hub data set, where it has several; A+B: the rows of A, then those of B.",
        results=True,
        of_path=True,
    )
    split: str = words(
        "train",
        about="The split of a hub data set; of a folder with files of several splits, the files to read.",
        results=True,
        of_path=True,
    )
    streaming: bool = plain(
        False,
        about="true: read a hub data set over the network, row by row, without a copy on the disk.",
        results=False,
        of_path=True,
    )
    columns: dict[str, str | None] = where(
        Words(lambda: "a map from fields to columns or null; fields are " + ", ".join(known_fields())),
        lambda value: set(value) <= set(known_fields()),
        default_factory=dict,
        about="The column of each field, where its name does not show it, as {problem: question, completion: trace}; a "
        "dotted path goes into nested columns, and null leaves a field out.",
        results=True,
        of_path=True,
    )
    only: dict[str, Any] = where(
        "a map from columns to a value or a list of values",
        lambda value: all(isinstance(name, str) for name in value),
        default_factory=dict,
        about="Only rows with one of these values are used, as {domain: math}.",
        results=True,
        of_path=True,
    )
    thinking: ThinkingConfig = part(
        _published_tags,
        about="The tags of the thought in the rows. They are put around a thought that has its own column.",
        of_path=True,
    )
    turns: str = choice(
        *TURNS,
        default="all",
        about="The turns of the assistant that are learnt from a conversation: all of them, or the last.",
        results=True,
        of_path=True,
    )
    limit: int | None = positive(
        None, about="Only this many of the first rows are read; null: all.", unit="rows", results=True, of_path=True
    )
