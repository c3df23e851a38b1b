"""The changelog lists every renamed key and value, and every field that goes with a path."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from fork_server import ROOT

from micota.config import DataConfig, ModelConfig
from micota.config.fields import declaration
from micota.config.problems import ProblemsConfig
from micota.config.renamed import KEYS, VALUES

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_renamed_keys_and_values_are_those_of_the_code() -> None:
    listed = dict(re.findall(r"^\| `([^`]+)`[^|]*\| `([^`]+)` \|$", TEXT, flags=re.MULTILINE))
    values = {f"{key}: {old}": f"{key}: {new}" for (key, old), new in VALUES.items()}
    assert listed == KEYS | values


@pytest.mark.parametrize(
    ("start", "schema"),
    [("of a model", ModelConfig), ("of a recipe", DataConfig), ("of problems and benchmarks", ProblemsConfig)],
)
def test_facts_of_a_path_are_those_of_the_code(start: str, schema: type) -> None:
    [line] = re.findall(rf"^  - `path` {start}.*$", TEXT, flags=re.MULTILINE)
    declared = [(item.name, declaration(item)) for item in fields(schema)]
    facts = {name for name, about in declared if about.of_path and not about.internal}
    listed = set(re.findall(r"`(\w+)`", line)) & {item.name for item in fields(schema)} - {"path"}
    assert listed == facts
