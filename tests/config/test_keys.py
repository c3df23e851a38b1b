"""Every field of every command is flipped, and keys change exactly where the field declares that results do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from conftest import compose_quickly

from micota import graph
from micota.config import (
    SCHEMAS,
    BestConfig,
    Call,
    Config,
    DoctorConfig,
    GeneratorSftConfig,
    LoraConfig,
    ModelSftConfig,
    ThinkingConfig,
)
from micota.config.fields import Declaration, declaration
from micota.config.parse import complaints
from micota.config.reference import NAME, keys, reference
from micota.config.rows import RowsConfig
from micota.errors import ConfigError

Composed = Callable[..., Any]
ROLES = ("student", "teacher", "ta", "ta_sft", "ta_merged", "long_generator", "short_generator", "large", "small")
MODELS = ("teacher", "ta", "student", "large", "small")
MODEL = "{path: a/b, name: c, thinking: {open: a, close: b}, sampling: {temperature: 0.6}}"
# Without a temperature top_p has no effect, as settings of a filter have none without it.
HOT = [f"{part}.sampling.temperature=0.6" for part in ("teacher", "ta", "large", "small", "evaluation", "merge_sweep")]
# With these every field counts somewhere: each place is a few overrides.
PLACES = [
    ["data=micota", "merge_sweep.problems.path=a/b", "merge_sweep.problems.name=c",
     "teacher.sampling.temperature=0.6", "ta.sampling.temperature=0.6"],
    ["data=released_long", "prompt.per_benchmark=true"],
    ["data=strong", "engine=server", "student.sft.lora.r=4", "ta.sft.lora.r=4",
     "student.sft.schedule=stable_decay", "ta.sft.schedule=stable_decay",
     *(f"{model}.sft.{each}" for model in ("student", "ta") for each in ("validation_fraction=0.1", "best.by=loss"))],
    ["data=strong", *(f"{model}.sft.validation.path=a/b" for model in ("student", "ta"))],
    ["data=short", "engine=ray", f"short_generator={MODEL}",
     *(f"{model}.thinking={{open: a, close: b}}" for model in MODELS)],
    ["data=mix_large", *HOT, "data@ta_data=mix_long", "long_generator.sampling.temperature=0.6",
     "evaluation.judge={url: 'http://a/v1', model: b}"],
    ["data=most_likely", "engine=vllm", "ta_data.generator=large"],
    ["merge=dare_ties_pretrained", "merge.base.thinking={open: a, close: b}"],
    ["data=micota", *(f"merge.{role}={MODEL.replace('a/b', f'a/{role}')}" for role in ("base", "tuned", "instruct"))],
    ["data=mix_long", "data@ta_data=mix_long", *(f"{recipe}.{part}generator=model" for recipe in ("data", "ta_data")
     for part in ("parts.long.", "parts.short.")), *(f"{recipe}.{part}model={MODEL}" for recipe in ("data", "ta_data")
     for part in ("parts.long.", "parts.short."))],
    ["data=strong", *(f"{recipe}.generator=model" for recipe in ("data", "ta_data")),
     *(f"{recipe}.model={MODEL}" for recipe in ("data", "ta_data"))],
    ["merge=della", "merge.target_length_ratio=0.5", "data=micota"],
    ["data=annealed", "curriculum=merge_annealing"],
    ["data=strong", "objective=on_policy", "student.sft.max_flops=1e9", "ta.sft.max_flops=1e9"],
    ["data=strong", "objective=logit_kd", "objective.divergence=jsd", f"objective.model={MODEL}",
     "objective.teacher=model"],
    ["data=micota", "merge.target=student_bpc", "merge.search=activations"],
    ["data=micota", "merge.target=student_gain", "evaluation.sampling.temperature=0.6"],
    ["data=micota", "merge.target=accuracy", "merge.search=cma_es"],
    ["engine=chat", "engine.chat.url=http://a/v1"],
    ["merge=mergekit", "+merge.config.models=[{model: before}, {model: after}, {model: a/b}]"],
    ["merge=breadcrumbs", "data=strong", "data.path=a/b", "ta_data.path=a/b"],
    ["data=mix_long", "data.parts.short.path=a/b", "data@ta_data=mix_long", "ta_data.parts.short.path=a/b"],
    ["data=strong", "evaluation.sampling.temperature=1", "+evaluation.num_samples_of.gsm8k=2"],
    ["data=strong", "select.match=problems", "compare.recipes=[micota,mix_large,most_likely,strong]"],
    ["data=micota", "select.match=problems", "select.keep_sample=median",
     "compare.recipes=[micota, large, annealed, {other: ['data=micota', 'data.name=other']},"
     "{rows: ['data=strong', 'data.name=rows', 'data.path=a/b']},"
     "{part: ['data=mix_long', 'data.parts.short.path=c/short_rows']},"
     f"{{model: ['data=strong', 'data.name=d', 'data.generator=e/f', 'data.model={MODEL}']}},"
     "{models: ['data=mix_long', 'data.parts.short.name=g', 'data.parts.short.generator=model',"
     f"'data.parts.short.model={MODEL}']}}]"],
]  # fmt: skip
# Fields that no other value of is right alone: what is set with them.
WITH = {
    "select_by": {"select_by": "student_bpc", "weights": {}},
    "validation_fraction": {"validation_fraction": 0.25, "validation": RowsConfig()},
    "keep_models": {"keep_models": 3, "save_model_every": 7},
    "points": {"points": [{"at": 0, "a": 1}], "order": "mixture"},
    "stored": {"stored": "float16", "top_k": 3},
    "rounds": {"rounds": 4, "order": "steered"},
    "keep_length": {"keep_length": 3, "keep_sample": "nearest"},
    "freeze": {"freeze": ["more"], "lora": None},
    "warmup_steps": {"warmup_steps": 3, "warmup_ratio": 0.0},
    "seeds": {"seeds": [0, 1]},
    "futility": {"futility": 0.2, "seeds": [0, 1]},
    "target": {"target": "accuracy", "target_length_ratio": None},
    "target_length_ratio": {"target_length_ratio": 0.25, "target": None, "search": "grid"},
    "budget_gpu_hours": {"budget_gpu_hours": 3.0, "plan": True},
}
# A TA is tuned here: none is released. Recipes that are made alike have data. Paths in merge.config have no training.
NOWHERE = (
    "ta_data.released.",
    "compared.NAME.released.",
    "merge.others.NAME.sft.",
    "merge.others.NAME.thinking.",
    "ta_data.merge_weight",
    "ta_data.parts.NAME.merge_weight",
    "ta.sft.curriculum.rounds",
)  # no data of the TA are of the merged TA, and it is not trained in rounds
VALUES: dict[str, list[Any]] = {  # where a type does not say what else is accepted
    "accelerator": ["cpu", "gpu"],
    "additional_parameters": [{"constraint": "a100"}],
    "config": [{"merge_method": "karcher"}],
    "axes": [{"student": ["tiny"]}],
    "recipes": [["strong"]],
    "measures": [["bpc"]],
    "template": ["Solve {problem}"],
    "evaluation_template": ["Solve {problem}"],
    "paper_template": ["Solve {problem}"],
    "url": ["http://elsewhere/v1"],
    "key_variable": ["OTHER_KEY"],
    "repo": ["a/b"],
    "types": [{"word": "text"}],
    "num_samples_of": [{"gsm8k": 3}],
    "budgets": [[512]],
    "batch_sizes": [[2]],
    "num_threads": [[3], 3],
    "baseline": ["strong", "micota"],
    "extra_body": [{"top_k": 3}],
    "filters": [["correct", "finished", "length"]],
    "generator": ["teacher", "large"],
    "decontaminate": ["none"],
    "language": ["de"],
    "date_string": ["1 Jan 2025"],
    "template_args": [{"a": 1}],
    "thinking": ["cot"],
    "worker_bytes": [2**30],
    "overrides": [["seed=1"]],
    "columns": [{"problem": "text"}],
    "points": [[{"at": 0, "a": 1}]],
    "merge_weights": [[0.25]],
    "only": [{"domain": "math"}],
}


def others(name: str, declared: Declaration, value: Any, hint: str) -> Iterator[Any]:
    """Other values of a field, of which some may not be accepted."""
    yield from VALUES.get(name, [])
    yield from declared.options
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value / 2, 0.25)
    elif isinstance(value, list):
        yield from ([*value, value[0] / 2] if value and isinstance(value[0], float) else [*value, "more"],)
    elif isinstance(value, dict):
        yield dict(zip(value, reversed(value.values()), strict=True))
    elif "int" in hint or "float" in hint:
        yield from (3, 0.25)
    else:
        yield f"{value or ''}x"


def owners(node: Any, names: list[str], above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The dataclasses at a dotted place, each with those it is in, outermost first; NAME stands for each key of a
    map."""
    if not names or node is None:
        yield from [(*above, node)] if node is not None else []
    elif names[0] == NAME:
        for child in node.values():
            yield from owners(child, names[1:], above)
    else:
        yield from owners(getattr(node, names[0]), names[1:], (*above, node))


def keys_of(config: Config) -> set[tuple[str, str]]:
    """The keys of all nodes that can be made of a config."""
    targets = [node for role in ROLES for node in graph.scores(config, role).values()]
    targets.append(graph.data(config, config.ta_data, matched=False))
    if config.merge.method != "mergekit":  # which does not merge in memory
        targets.append(graph.merge_sweep(config))
    targets += [node for node in [graph.bpc(config)] if node is not None]
    if config.evaluation.sampling.temperature == 0:
        targets += graph.rank_shifts(config).values()
    if isinstance(config, DoctorConfig):
        targets += graph.determinism(replace(config, role="student"), {}).values()
    elif hasattr(config, "model") and config.model.path is not None:
        targets += graph.evaluation(config)  # type: ignore[arg-type]
    return {(node.stage, node.key) for target in targets for node in target.walk()}


hints_of = cache(get_type_hints)


def flip(inside: tuple[Any, ...], name: str) -> bool:
    """Give a field of the last dataclass, which the others before it have inside, another value that is accepted; False
    where none is."""
    *above, owner = inside
    item = next(item for item in fields(owner) if item.name == name)
    before, hint = dict(vars(owner)), str(hints_of(type(owner))[name])
    for value in others(name, declaration(item), before[name], hint):
        vars(owner).update(WITH.get(name, {name: value}))
        if getattr(owner, name) != before[name] and is_accepted(above, owner):
            return True
        vars(owner).update(before)
    return False


def is_accepted(above: list[Any], changed: Any) -> bool:
    """Whether a dataclass of a config that was accepted is so after a change: elsewhere conflicts alone can be new."""
    conflicts = (list(node.conflicts()) for node in above if hasattr(node, "conflicts"))
    return not list(complaints(changed)) and not any(conflicts)


def flips(config: Config, key: str) -> Iterator[Config]:
    """The config with another value at a key, once for each entry of a map that the key stands for."""
    *parents, name = key.split(".")
    for index in range(len(list(owners(config, parents)))):
        changed = copy.deepcopy(config)
        if flip(list(owners(changed, parents))[index], name):
            yield changed


@pytest.fixture(scope="module")
def places() -> list[tuple[Config, set[tuple[str, str]]]]:
    import hydra

    from micota.cli import app

    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        small = [
            "bench=[gsm8k]",
            "bench@decontaminate_against=[aime24]",
            "select.filters=[finished,length,loops,language]",
        ]
        calls = [Call(overrides=[*small, *place]) for place in PLACES]
        composed = (compose_quickly("evaluate", call.overrides) for call in calls)
        made = [app.prepare(config, SCHEMAS["evaluate"], call) for config, call in zip(composed, calls, strict=True)]
    table = {"other": GeneratorSftConfig(learning_rate=1e-5, batch_size=2, epochs=1)}
    lora = ModelSftConfig(
        lora=LoraConfig(r=4),
        schedule="stable_decay",
        best=BestConfig(by="loss"),
        validation=RowsConfig(path="a/b"),
        by_generator=table,
    )
    made[0].model.path, made[0].model.thinking = "some/model", ThinkingConfig(open="a", close="b")
    for config in made:  # below a null, nothing can be set on the command line
        merged = config.merge.base, config.merge.tuned, config.merge.instruct
        every = [part for recipe in (config.data, config.ta_data, *config.compared.values()) for part in recipe.each()]
        recipes = [part.model for part in every if part.generator == "model"]
        for model in (
            *(config.teacher, config.large, config.small, config.long_generator, config.short_generator, config.model),
            *(*merged, *recipes, config.objective.model),
        ):
            model.sft = lora
    return [(config, keys_of(config)) for config in made]


@cache
def declared(schema: type[Config]) -> dict[str, bool]:
    """By key, whether it changes results; parts are flipped field by field."""
    return {key.key: key.changes_results for key in keys(schema) if not key.is_part}


def top(key: str) -> str:
    return key.partition(".")[0]


# Sections with the fields of another: every model has those of the teacher, and every recipe those of data.
ALIKE = {"large", "small", "long_generator", "short_generator", "model", "ta_data", "compared", "decontaminate_against"}
SECTIONS = [
    pytest.param(section, marks=pytest.mark.thorough if section in ALIKE else [])
    for section in sorted({top(key) for key in declared(SCHEMAS["evaluate"])} - {"num_samples", "temperature"})
]


def of_section(section: str, changes: bool) -> list[str]:
    return [
        key
        for key, found in declared(SCHEMAS["evaluate"]).items()
        if top(key) == section and found == changes and not key.startswith(NOWHERE)
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_what_changes_results_enters_keys(places: list[tuple[Config, set[tuple[str, str]]]], section: str) -> None:
    tried = list(places)

    def enters(key: str) -> bool:
        for index, (config, before) in enumerate(tried):
            for changed in flips(config, key):
                with suppress(ConfigError):  # a comparison may lose the recipe at hand
                    if keys_of(changed) != before:
                        tried.insert(0, tried.pop(index))  # where the next key is likely to count too
                        return True
        return False

    assert [key for key in of_section(section, True) if not enters(key)] == [], "declared as results, and in no key"


@pytest.mark.parametrize("section", SECTIONS)
def test_what_does_not_change_results_enters_no_key(
    places: list[tuple[Config, set[tuple[str, str]]]], section: str
) -> None:
    """All fields of a section at once, in every place; alone, where one does not go with the others."""
    without, flipped = of_section(section, False), set()
    for config, before in places:
        changed = copy.deepcopy(config)
        own = {
            key
            for key in without
            for inside in [*owners(changed, key.split(".")[:-1])]
            if flip(inside, key.rpartition(".")[2])
        }
        flipped |= own
        # Where nothing was flipped, keys are those of before.
        assert not own or keys_of(changed) == before, f"one of {sorted(own)} enters keys and is declared results=False"
    for key in sorted(set(without) - flipped):
        alone = [keys_of(changed) == before for config, before in places for changed in flips(config, key)]
        assert alone and all(alone), f"{key} enters keys, or was never flipped: name another value in this test"


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_fields_of_one_command_alone(composed: Composed, command: str) -> None:
    config = composed(command)
    before = keys_of(config)
    own = {item.name for item in fields(SCHEMAS[command])} - {item.name for item in fields(Config)}
    if command == "evaluate":  # the rest is flipped above
        own = {"num_samples", "temperature"}
        assert keys_of(composed(command, "temperature=0.5")) != before
        sampled = [composed(command, "temperature=0.5", f"num_samples={count}") for count in (1, 2)]
        assert keys_of(sampled[0]) != keys_of(sampled[1])
        assert all(changes for key, changes in declared(SCHEMAS[command]).items() if key in own)
        return
    for key, changes in declared(SCHEMAS[command]).items():
        if top(key) in own - {"model"}:  # which is flipped above, for evaluate
            found = [keys_of(changed) != before for changed in flips(config, key)]
            assert found == [changes], f"{key} is declared results={changes}"


def test_a_whole_number_is_the_same_share_however_it_is_written(composed: Composed) -> None:
    pairs = [("weight=1", "weight=1.0"), ("density=[1,0.5]", "density=[1.0,0.5]")]
    for one, other in (
        *pairs,
        ("weight=[{filter: mlp, value: 1}, {value: 0}]", "weight=[{filter: mlp, value: 1.0}, {value: 0.0}]"),
    ):
        keys = {graph.merged(composed("merge", f"merge.{setting}")).key for setting in (one, other)}
        assert len(keys) == 1, one


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_every_field_has_a_meaning(command: str) -> None:
    def check(owner: type[Any]) -> None:
        hints = get_type_hints(owner)
        for item in fields(owner):
            found = declaration(item)
            assert found.about.endswith(".") and len(found.about) < 300, f"{owner.__name__}.{item.name}"
            if is_dataclass(hints[item.name]):
                inside = {inner.name for inner in fields(hints[item.name])}
                assert set(found.unused) <= inside, f"{owner.__name__}.{item.name} leaves out what is not there"
                check(hints[item.name])

    check(SCHEMAS[command])


def test_the_reference_has_every_key(composed: Composed) -> None:
    configs = {command: composed(command) for command in SCHEMAS}
    text = reference(configs)
    for command, schema in SCHEMAS.items():
        for key in keys(schema, configs[command]):
            is_section = key.is_part and "." not in key.key and f"\n### {key.key}\n" in text
            assert key.is_internal != (is_section or f"\n| `{key.key}` | {key.about} |" in text), key.key
    assert "| `select.max_tokens` |" in text and "| `teacher.name` |" in text and "`r1_qwen32b`" in text
    assert "| `bench.NAME.path` |" in text and "overrides" not in text.partition("## Of generate")[0].split("`")
    seconds = next(line for line in text.splitlines() if "`evaluation.timeout_s`" in line)
    assert " | seconds | number | a number above 0 | `5` | no |" in seconds


def test_a_field_without_a_declaration_is_refused() -> None:
    from dataclasses import dataclass

    @dataclass(kw_only=True)
    class Undeclared(Config):
        more: int = 1

    with pytest.raises(TypeError, match="config field more does not declare"):
        keys(Undeclared)


def test_a_folder_is_one_model_in_every_spelling(composed: Composed, tmp_path: Path) -> None:
    (tmp_path / "far" / "below").mkdir(parents=True)
    for name in ("models", "far"):
        (tmp_path / name / "mine").mkdir(parents=True)
        (tmp_path / name / "mine" / "config.json").write_text(f'{{"name": "{name}"}}')
    (tmp_path / "link").symlink_to(tmp_path / "far" / "below")

    def path(spelling: str) -> str:
        return str(composed("train", f"student.path={tmp_path}/{spelling}").student.path)

    assert path("models/mine/") == path("models/./../models/mine") == f"{tmp_path}/models/mine"
    (tmp_path / "mine").mkdir()
    assert path("link/../mine") == f"{tmp_path}/link/../mine", "it is far/mine, and not mine"
