"""The hyper-parameter tables of both papers, beside what the experiments compose.

Each row is: where the number is printed, the node that it belongs to (case, recipe), the field, the paper's number.
MiCoTA is arXiv 2507.01887, Mix Distillation arXiv 2502.12143; cards are the model cards of the released checkpoints
(UWNSL on the Hugging Face hub).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from micota import graph
from micota.config import Config, SftConfig
from micota.graph.specs import CompletionsSpec, FilteredSpec, MatchedSpec, MergeSpec, TrainSpec

CasesOf = Callable[[str], list[graph.CaseConfig]]
QWQ, R1 = "QwQ-32B", "R1-Distill-Qwen-32B"
# Section, student, teacher -> batch size, peak learning rate, epochs; each is one sentence of MiCoTA's section 6.2.
MICOTA = [
    ("6.2 Qwen2.5-14B-Instruct", "qwen14b", QWQ, 32, 1e-5, 2),
    ("6.2 Qwen2.5-14B-Instruct", "qwen14b", R1, 32, 1e-5, 2),
    ("6.2 Qwen2.5-3B-Instruct, QwQ-32B", "qwen3b", QWQ, 32, 1e-5, 2),
    ("6.2 Qwen2.5-3B-Instruct, R1-Distill-Qwen-32B", "qwen3b", R1, 128, 2e-5, 3),
    ("6.2 Qwen2.5-1.5B-Instruct, QwQ-32B", "qwen1.5b", QWQ, 32, 1e-5, 2),
    ("6.2 Qwen2.5-1.5B-Instruct, R1-Distill-Qwen-32B", "qwen1.5b", R1, 96, 2e-5, 3),
]
FULL = ["qwen0.5b", "qwen1.5b", "qwen3b", "qwen7b", "llama1b", "llama3b", "llama8b"]
LORA = ["qwen14b", "qwen32b", "llama3.3_70b"]
DEVICES, PER_DEVICE = 4, 2  # Mix Distillation, table 5: number of devices, per-device batch size
# Field, table 5 (full fine-tuning), the cards of the adapters (the paper's table 6 is not in its text).
MIX = [
    ("learning_rate", 1e-5, 1e-4),
    ("epochs", 2, 2),
    ("batch_size", DEVICES * PER_DEVICE, 4 * 1),
    ("warmup_ratio", 0.0, 0.1),
    ("max_tokens", 16384, 16384),
]


Recipes = dict[tuple[str, ...], dict[str, Config]]


def by_case(cases: list[graph.CaseConfig]) -> Recipes:
    """The configs of an experiment by the labels of their case, then by recipe."""
    return {tuple(case.labels.values()): {recipe.name: recipe.config for recipe in case.recipes} for case in cases}


@pytest.fixture(scope="module")
def pivotal(cases_of: CasesOf) -> Recipes:
    return by_case(cases_of("pivotal"))


@pytest.fixture(scope="module")
def long_vs_short(cases_of: CasesOf) -> Recipes:
    return by_case(cases_of("mix_distillation/long_vs_short"))


def trained(config: Config) -> SftConfig:
    return graph.trained(config, "student").spec.sft


@pytest.mark.parametrize(("source", "student", "teacher", "batch_size", "learning_rate", "epochs"), MICOTA)
def test_micota_by_student_and_teacher(
    pivotal: Recipes, source: str, student: str, teacher: str, batch_size: int, learning_rate: float, epochs: int
) -> None:
    for recipe in ("strong", "half_size"):
        sft = trained(pivotal[teacher, student][recipe])
        assert (sft.batch_size, sft.learning_rate, sft.epochs) == (batch_size, learning_rate, epochs), source
        assert (sft.weight_decay, sft.warmup_ratio, sft.max_tokens, sft.lora) == (0.01, 0.0, 16384, None), source


def test_micota_for_the_7b_student(cases_of: CasesOf) -> None:
    recipes = by_case(cases_of("micota"))["qwen7b",]
    for name in ("strong", "mix_long", "micota"):  # the generator of mix_long is QwQ-32B
        sft = trained(recipes[name])
        source = "6.2 Qwen2.5-7B-Instruct: for all experiments"
        assert (sft.batch_size, sft.learning_rate, sft.epochs, sft.weight_decay) == (32, 1e-5, 2, 0.01), source


def test_micota_beyond_training(pivotal: Recipes) -> None:
    config = pivotal[R1, "qwen3b"]["half_size"]
    nodes = {type(node.spec): node for node in graph.merged(config).walk()}
    answers, data, ta = nodes[CompletionsSpec].spec, nodes[FilteredSpec].spec, nodes[TrainSpec].spec
    assert (answers.sampling.temperature, answers.sampling.max_tokens) == (0.0, 16384), "4.2: greedy, 16K tokens"
    assert config.problems.num_rows == 12_000, "4.2: 12K items"
    assert data.select.filters == ["finished", "correct", "length"], "equation 1"
    assert (ta.sft.batch_size, ta.sft.learning_rate, ta.sft.epochs) == (32, 1e-5, 2), "6.2 Qwen2.5-14B-Instruct"
    assert nodes[MergeSpec].spec.method == "dare_ties", "3.2"
    assert (config.evaluation.sampling.temperature, config.evaluation.sampling.max_tokens) == (0.0, 16384), "4.2"
    assert list(config.bench) == ["aime24", "amc23", "olympiadbench", "math500", "gsm8k"], "table 2"


@pytest.mark.parametrize(("field", "full", "adapters"), MIX)
def test_mix_distillation_by_student(long_vs_short: Recipes, field: str, full: float, adapters: float) -> None:
    for student in FULL + LORA:
        for recipe in ("strong", "short"):
            sft = trained(long_vs_short[(student,)][recipe])
            assert getattr(sft, field) == (full if student in FULL else adapters), (student, recipe)
            assert (sft.lora is None) == (student in FULL)
            if sft.lora is not None:  # a guess: the rank is not published
                assert (sft.lora.r, sft.lora.alpha, sft.lora.targets) == (8, 16, ["all-linear"])


def test_mix_distillation_beyond_training(long_vs_short: Recipes) -> None:
    config = long_vs_short["qwen3b",]["strong"]
    assert (config.problems.path, config.problems.split) == ("EleutherAI/hendrycks_math", "train")
    assert config.problems.num_rows == 7_500, "caption of table 3"
    assert len(config.problems.subset.split("+")) == 7
    rows = {name: bench.num_rows for name, bench in config.bench.items()}
    assert rows == {"math5000": 5000, "amc23": 40, "gsm8k": 1319, "olympiadbench": 674, "aime24": 30}, "table 3"
    for case in long_vs_short.values():
        generators = {name: generator(config) for name, config in case.items() if name != "instruct"}
        assert generators == {"strong": "Qwen/QwQ-32B-Preview", "short": "Qwen/Qwen2.5-32B-Instruct"}, "table 4"


def generator(config: Config) -> str:
    node = graph.data(config, config.data, matched=False)
    return str(node.inputs["completions"].inputs["model"].spec.path)


def test_the_mixtures_are_the_papers(cases_of: CasesOf, composed: Callable[..., Any]) -> None:
    """Mix-Long of MiCoTA's section 4.2, and the mixtures of Mix Distillation's table 3, one to four (figure 6: 0.2)."""

    def parts(config: Config) -> dict[str, tuple[float, str]]:
        node = graph.data(config, config.data, matched=False)
        paths = {label: part.inputs["completions"].inputs["model"].spec.path for label, part in node.inputs.items()}
        return {label: (config.data.weights[label], paths[label]) for label in node.inputs}

    plain = composed("train", "data=mix_long")
    assert parts(plain) == {"long": (0.2, "Qwen/QwQ-32B"), "short": (0.8, "Qwen/Qwen2.5-32B-Instruct")}
    assert trained(composed("train", "data=mix_long", "student=qwen3b")).learning_rate == 1e-5
    recipes = by_case(cases_of("mix_distillation/mix"))["qwen3b",]
    assert parts(recipes["mix_long"]) == {
        "long": (0.2, "Qwen/QwQ-32B-Preview"), "short": (0.8, "Qwen/Qwen2.5-32B-Instruct")
    }  # fmt: skip
    assert parts(recipes["mix_large"]) == {
        "large": (0.2, "Qwen/Qwen2.5-72B-Instruct"), "small": (0.8, "Qwen/Qwen2.5-3B-Instruct")
    }  # fmt: skip
    assert generator(recipes["r1_long"]) == "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
    sft = trained(recipes["r1_long"])
    assert (sft.learning_rate, sft.batch_size, sft.epochs) == (1e-5, 8, 2), "table 5, not MiCoTA's for this generator"


def test_mix_distillation_compares_recipes_on_the_same_problems(cases_of: CasesOf) -> None:
    for config in by_case(cases_of("mix_distillation/mix"))["qwen3b",].values():
        assert config.select.match == "problems"
        if not config.data.is_untuned:
            assert isinstance(graph.data(config, config.data).spec, MatchedSpec)


def test_the_papers_student_data_have_no_filter_of_correctness(composed: Callable[..., Any]) -> None:
    config = composed("train", "data=micota_unfiltered", "compat=[paper]")
    node = graph.data(config, config.data)
    ta = graph.trained(config, "ta").inputs["data"]
    assert (node.spec.select.filters, ta.spec.select.filters) == (
        ["finished", "length"], ["finished", "correct", "length"]
    )  # fmt: skip
    filtered = composed("train", "data=micota", "compat=[paper]")
    assert node.inputs["completions"].key == graph.data(filtered, filtered.data).inputs["completions"].key


# Field, the authors' values for long and short CoT, and for mixtures: model cards and published YAML.
PUBLISHED_CODE = [
    ("learning_rate", 1e-5, 1e-5),
    ("epochs", 2, 2),
    ("warmup_ratio", 0.0, 0.0),
    ("weight_decay", 0.0, 0.0),
    ("batch_size", 4 * 4, 5 * 4 * 4),  # per device, devices, accumulation
    ("batch_of", "examples", "packs"),
    ("max_tokens", 8192, 4096),
    ("overlong", "cut", "cut"),
    ("validation_fraction", 0.01, 0.01),
]


@pytest.mark.parametrize(("field", "alone", "mixed"), PUBLISHED_CODE)
def test_the_published_code_of_mix_distillation(cases_of: CasesOf, field: str, alone: object, mixed: object) -> None:
    recipes = by_case(cases_of("mix_distillation/unmatched"))["qwen3b",]
    for name, value in {"strong_unmatched": alone, "short_unmatched": alone, "mix_long_unmatched": mixed}.items():
        assert getattr(trained(recipes[name]), field) == value, name


def test_a_value_set_directly_wins_over_the_table(composed: Callable[..., Any]) -> None:
    config = composed("train", "student=qwen3b", "data=strong", "student.sft.learning_rate=3e-6")
    sft = graph.trained(config, "student").spec.sft
    assert (sft.learning_rate, sft.batch_size, sft.epochs) == (3e-6, 128, 3)


def test_data_of_other_generators_have_the_values_of_other(composed: Callable[..., Any]) -> None:
    config = composed("train", "student=qwen3b", "data=large")
    sft = graph.trained(config, "student").spec.sft
    assert (sft.learning_rate, sft.batch_size, sft.epochs) == (1e-5, 32, 2)
