from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

from micota.config import ModelConfig, SamplingConfig, SelectConfig, SourceConfig, ThinkingConfig
from micota.config.problems import QuestionsConfig
from micota.data.datacard import card, markdown, size_category
from micota.graph import CompletionsSpec, Prompt, source
from micota.graph.node import Node
from micota.graph.specs import FilteredSpec
from micota.records import DATA, Example

ROWS = [
    Example(
        problem_id=str(i),
        messages=[{"role": "user", "content": f"{i}?"}],
        completion="42",
        num_tokens=i + 1,
        source="strong",
    )
    for i in range(3)
]


def described(path: str = "owner/problems", name: str = "strong") -> dict[str, Any]:
    prompt, thinking = Prompt(template="{problem}?", system=None), ThinkingConfig()
    sampled = CompletionsSpec(
        questions=QuestionsConfig(path=path), prompt=prompt, sampling=SamplingConfig(max_tokens=99), thinking=thinking,
        engine="hf", dtype="float32", seed=None, extra_body={},
    )  # fmt: skip
    spec = FilteredSpec(
        recipe="strong", problems=SourceConfig(path=path), decontaminate_against={}, prompt=prompt,
        select=SelectConfig(filters=["correct"]), thinking=thinking, seed=0,
    )  # fmt: skip
    teacher = source(ModelConfig(name="teacher", path="hub/teacher"))
    completions = Node(name="teacher@pool", spec=sampled, inputs={"model": teacher})
    node = Node(name=name, spec=spec, inputs={"completions": completions})
    return card(node, {"completions": 5, "dropped_incorrect": 2, "examples": 3}, ROWS)


def front_matter(path: str = "owner/problems", name: str = "strong") -> dict[str, Any]:
    data: dict[str, Any] = DatasetCard(markdown(described(path, name))).data.to_dict()
    return data


def test_the_hub_reads_the_front_matter() -> None:
    assert front_matter() == {
        "pretty_name": "strong",
        "tags": ["micota", "reasoning", "distillation"],
        "task_categories": ["text-generation"],
        "size_categories": ["n<1K"],
        "source_datasets": ["extended|owner/problems"],
        "configs": [{"config_name": "default", "data_files": DATA}],
    }, "and no licence, which is not known"


def test_a_name_cannot_break_the_front_matter() -> None:
    for name in ("strong: [a", "yes", "# no comment", "'"):
        assert front_matter(name=name)["pretty_name"] == name


@pytest.mark.parametrize("path", ["bundled:train.jsonl", "mine/problems.jsonl", "/data/problems.json", "gsm8k"])
def test_problems_that_are_not_on_the_hub_are_no_source_data_set(path: str) -> None:
    assert "source_datasets" not in front_matter(path)


@pytest.mark.parametrize(("num_examples", "category"), [
    (1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10_000, "10K<n<100K"),
    (250_000, "100K<n<1M"), (1_000_000, "1M<n<10M"), (10**12, "100M<n<1B"),
])  # fmt: skip
def test_size_categories_are_powers_of_ten(num_examples: int, category: str) -> None:
    assert size_category(num_examples) == category


def test_datasets_finds_the_rows_by_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(markdown(described()))
    (tmp_path / DATA).write_text("".join(json.dumps({"problem_id": row.problem_id}) + "\n" for row in ROWS))
    (tmp_path / "contamination.jsonl").write_text('{"benchmark": "gsm"}\n')
    rows = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"), split="train")
    assert rows["problem_id"] == ["0", "1", "2"]
