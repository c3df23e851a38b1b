from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import case_of, thorough_after

from micota import graph
from micota.config import arguments_for
from micota.errors import ConfigError
from micota.graph.node import AnyNode

Composed = Callable[..., Any]


def test_micota_walks_back_to_the_teacher(composed: Composed) -> None:
    student = graph.model(composed("train", "student=qwen1.5b", "data=micota"), "student")
    stages = [(node.stage, node.name) for node in graph.unique([student])]
    assert stages == [
        ("generate", "r1_qwen32b@math12k"),
        ("select", "strong"),
        ("train", "qwen14b+strong"),
        ("merge", "qwen14b+strong.dare_ties-d0.5-w0.5"),
        ("generate", "qwen14b+strong.dare_ties-d0.5-w0.5@math12k"),
        ("select", "micota"),
        ("train", "qwen1.5b+micota"),
    ]


@pytest.mark.parametrize("override", [
    "engine.batch_size=7", "trainer.pack_length=99", "trainer.micro_batch_rows=3", "trainer.checkpoint_every=5",
    "tracker=none", "artifacts=/elsewhere", "num_threads=2", "name=other", "trainer.activation_checkpointing=none",
    "trainer=gpu", "compare.recipes=[strong]",
])  # fmt: skip
def test_where_and_how_things_run_does_not_enter_keys(composed: Composed, override: str) -> None:
    key = graph.model(composed("train", "data=micota"), "student").key
    assert graph.model(composed("train", "data=micota", override), "student").key == key


@pytest.mark.parametrize(("override", "changed"), [
    ("teacher.sampling.temperature=0.5", {"strong", "ta", "merged", "micota", "student"}),
    ("select.max_tokens=99", {"strong", "ta", "merged", "micota", "student"}),
    ("ta.sft.learning_rate=1e-4", {"ta", "merged", "micota", "student"}),
    ("merge.density=0.3", {"merged", "micota", "student"}),
    ("student.sft.epochs=9", {"student"}),
    ("seed=1", {"strong", "ta", "merged", "micota", "student"}),
    ("bench=[gsm8k]", set()),
    ("bench@decontaminate_against=[gsm8k]", {"strong", "ta", "merged", "micota", "student"}),
    ("select.decontaminate=none", {"strong", "ta", "merged", "micota", "student"}),
])  # fmt: skip
def test_a_change_redoes_what_depends_on_it_and_shares_the_rest(
    composed: Composed, override: str, changed: set[str]
) -> None:
    def keys(*overrides: str) -> dict[str, str]:
        config = composed("train", "student=qwen1.5b", "data=micota", *overrides)
        return {
            "strong": graph.data(config, config.ta_data).key,
            "ta": graph.model(config, "ta_sft").key,
            "merged": graph.model(config, "ta_merged").key,
            "micota": graph.data(config, config.data).key,
            "student": graph.model(config, "student").key,
        }

    before, after = keys(), keys(override)
    assert {name for name in before if before[name] != after[name]} == changed


def test_greedy_completions_are_shared_between_seeds(composed: Composed) -> None:
    config = composed("train", "data=short")
    first, second = (graph.data(replace(config, seed=seed), config.data).inputs["completions"].key for seed in (0, 1))
    assert first == second


def test_decontamination_redoes_the_choice_of_data_and_no_completion(composed: Composed) -> None:
    recipes = [composed("generate", "data=strong", *more) for more in ([], ["select.decontaminate=none"])]
    checked, unchecked = (graph.data(recipe, recipe.data) for recipe in recipes)
    assert list(checked.spec.decontaminate_against) == ["aime24", "amc23", "olympiadbench", "math500", "gsm8k"]
    assert unchecked.spec.decontaminate_against == {}
    assert checked.inputs["completions"].key == unchecked.inputs["completions"].key


def test_mixtures_share_their_parts_with_the_pure_recipes(composed: Composed) -> None:
    mixed = composed("train", "data=mix_long", "select.num_examples=10", "long_generator.path=null")
    strong = composed("train", "data=strong", "select.num_examples=10")
    parts = graph.data(mixed, mixed.data).inputs
    assert set(parts) == {"long", "short"}
    assert parts["long"].inputs["completions"].key == graph.data(strong, strong.data).inputs["completions"].key


def test_candidates_are_measured_under_the_student_that_is_trained_on_them(composed: Composed) -> None:
    base = ["data=most_likely", "select.num_examples=10"]
    config, other = composed("train", *base), composed("train", *base, "student=qwen1.5b")
    inputs = graph.data(config, config.data).inputs
    assert list(inputs) == [
        "strong", "half_size", "short", "micota",
        *map(graph.likelihood_of, ("strong", "half_size", "short", "micota")),
    ]  # fmt: skip
    measured = inputs["likelihood_of_short"]
    assert measured.inputs["data"] is inputs["short"] and measured.inputs["model"].name == "qwen7b"
    assert inputs["short"].spec.select.num_examples is None, "all that passed the filters can be chosen"
    assert graph.data(other, other.data).key != graph.data(config, config.data).key
    assert graph.data(other, other.data).inputs["short"].key == inputs["short"].key
    generator = inputs["half_size"].inputs["completions"].inputs["model"]
    assert generator.key == graph.model(config, "ta_sft").key, "the TA is tuned on as much data as ever"


@pytest.mark.parametrize("calibrated", thorough_after(1, [["merge.target_length_ratio=0.5"], []]))
def test_commands_make_what_they_name(composed: Composed, calibrated: list[str]) -> None:
    """Each node's own command leads to the same key: missing inputs and pipelines in processes rely on it."""
    tried = set()
    base = ["experiment=tiny", "seed=3", "merge.density=0.4", *calibrated]
    recipes = [
        composed("generate", *base, f"data={recipe}")
        for recipe in ("instruct", "strong", "mix_long", "most_likely", "micota")
    ]
    for node in graph.unique(graph.comparison(case_of(recipes)).targets()):
        # Nodes of one stage differ in the values that choose them: one of each is enough.
        kind = (node.stage, type(node.spec), *node.choose, node.choose.get("role"), node.benchmark)
        if not {kind, node.key} & tried:
            tried |= {kind, node.key}
            overrides = arguments_for(base, node.choose)
            folders = {made.folder for made in graph.unique(targets_of(composed(node.command, *overrides), node))}
            assert node.folder in folders, (node.name, node.command, overrides)


def targets_of(config: Any, node: AnyNode) -> list[AnyNode]:
    """What the command of a node makes."""
    match node.command:
        case "generate":
            return [graph.data(config, config.data)]
        case "train":
            return [graph.trained(config, config.role)]
        case "merge":
            return [graph.merge_sweep(config) if config.sweep else graph.merged(config)]
    return graph.evaluation(config)


@pytest.mark.parametrize(
    "settings",
    thorough_after(
        1,
        [
            ["evaluation=sampled", "+evaluation.num_samples_of.hard=3", "num_samples=2"],
            ["evaluation=sampled", "+evaluation.num_samples_of.hard=3"],
            ["num_samples=4", "temperature=0.6"],
            ["num_samples=4", "temperature=0.6", "evaluation.sampling.num_samples=2"],
        ],
    ),
)
def test_commands_of_an_evaluation_keep_its_sampling(composed: Composed, settings: list[str]) -> None:
    """``num_samples`` and ``temperature`` are keys of evaluate alone, and still part of the key of what it makes."""
    base = ["experiment=tiny", "data=short", *settings]
    for node in graph.unique(graph.evaluation(composed("evaluate", *base))):
        if node.command == "evaluate":
            again = graph.evaluation(composed("evaluate", *arguments_for(base, node.choose)))
            assert node.folder in {made.folder for made in graph.unique(again)}, (node.name, node.choose)


def test_samples_of_single_benchmarks(composed: Composed) -> None:
    def samples(*overrides: str) -> list[int]:
        targets = graph.evaluation(composed("evaluate", "experiment=tiny", "data=instruct", *overrides))
        return [node.inputs["completions"].spec.sampling.num_samples for node in targets]

    assert samples() == [1, 1, 1]
    assert samples("evaluation=sampled") == [4, 4, 4]
    assert samples("evaluation=sampled", "+evaluation.num_samples_of.hard=9") == [4, 4, 9]
    assert samples("evaluation=sampled", "+evaluation.num_samples_of.hard=9", "num_samples=2") == [2, 2, 2]
    with pytest.raises(ConfigError, match=r"num_samples_of=\{'hard': 9\} with temperature=0 repeats one answer"):
        samples("+evaluation.num_samples_of.hard=9")


def test_a_benchmark_has_a_prompt_of_its_own(composed: Composed) -> None:
    config = composed(
        "evaluate", "experiment=tiny", "data=instruct", "prompt.evaluation_template='{problem}!'",
        "bench.hard.template='Hard: {problem}'",
    )  # fmt: skip
    prompts = [node.inputs["completions"].spec.prompt.template for node in graph.evaluation(config)]
    assert prompts == ["{problem}!", "{problem}!", "Hard: {problem}"]


def test_the_student_before_sft_has_no_data(composed: Composed) -> None:
    config = composed("train", "data=instruct")
    assert graph.model(config, "student").is_source
    assert graph.bpc(config) is None
    with pytest.raises(ConfigError, match="student before SFT"):
        graph.trained(config, "student")


def test_calibration_is_part_of_what_its_merge_is_made_from(composed: Composed) -> None:
    config = composed("merge", "merge.target_length_ratio=0.5", "merge.weight=0.3")
    node = graph.merged(config)
    assert list(node.inputs) == ["base", "tuned", "calibration"]
    assert graph.merged(composed("merge", "merge.target_length_ratio=0.5", "merge.weight=0.9")).key == node.key
    assert graph.merged(composed("merge", "merge.target_length_ratio=0.6")).key != node.key
    fixed = [composed("merge", *overrides) for overrides in ([], ["merge_sweep.num_problems=5"])]
    assert graph.merged(fixed[0]).key == graph.merged(fixed[1]).key
    assert graph.merge_sweep(fixed[0]).key != graph.merge_sweep(fixed[1]).key


def test_with_a_pretrained_base_both_forms_of_the_ta_are_merged(composed: Composed) -> None:
    node = graph.merged(composed("merge", "merge=dare_ties_pretrained"))
    names = {label: child.name for label, child in node.inputs.items()}
    assert names == {"base": "qwen14b_base", "tuned": "qwen14b+strong", "instruct": "qwen14b"}
    alone = [graph.merged(composed("merge", f"merge.instruct_weight={weight}")).key for weight in (0.2, 0.8)]
    assert alone[0] == alone[1], "what does not count entered the key"
    other = graph.merged(composed("merge", "merge=dare_ties_pretrained", "merge.instruct_weight=0.2"))
    assert other.key != node.key


def test_gradients_have_names_that_are_folders(composed: Composed) -> None:
    node = graph.merged(
        composed("merge", "merge.density=[0.3,0.7]", "merge.weight=[{filter: mlp, value: 0.4}, {value: 1}]")
    )
    assert node.name == "qwen14b+strong.dare_ties-d0.3_0.7-wmixed"


def test_a_calibrated_experiment_still_has_its_curve(composed: Composed) -> None:
    base = ["experiment=tiny", "merge.target_length_ratio=0.5", "compare.merge_weights=[0.3]"]
    recipes = [composed("generate", *base, "data=micota")]
    assert list(graph.comparison(case_of(recipes)).curve) == [0.0, 0.3, 1.0]
    stages = {(node.stage, node.command) for node in graph.unique(graph.comparison(case_of(recipes)).targets())}
    assert ("merge_sweep", "merge") in stages


@pytest.mark.parametrize(("overrides", "alone"), [
    (["merge.weight=0.45"], False), (["merge=mergekit"], True), (["merge.target=accuracy"], True),
    (["merge.weight=[0.3,0.7]"], True),
])  # fmt: skip
def test_a_merge_without_one_weight_is_scored_beside_the_curve(
    composed: Composed, overrides: list[str], alone: bool
) -> None:
    made = graph.comparison(case_of([composed("generate", "experiment=tiny", "data=micota", *overrides)]))
    assert bool(made.merged) is alone
    merged = [scores.inputs["completions"].inputs["model"].stage for scores in made.merged.values()]
    assert set(merged) == ({"mergekit" if overrides == ["merge=mergekit"] else "merge"} if alone else set())
    assert {node.folder for node in made.merged.values()} <= {node.folder for node in made.targets()}


def test_the_curve_covers_the_weight_of_the_experiment(composed: Composed) -> None:
    config = composed("generate", "merge.weight=0.45", "compare.merge_weights=[0.3]", "data=micota")
    assert list(graph.comparison(case_of([config])).curve) == [0.0, 0.3, 0.45, 1.0]


@pytest.mark.parametrize(("command", "overrides"), [
    ("merge", ["merge.base={name: x, path: bundled:ta}"]),
    ("merge", ["merge.base.path=bundled:ta"]),
    ("merge", ["sweep=true", "merge_sweep.problems.path=bundled:train.jsonl"]),
    ("evaluate", ["evaluation.judge={url: 'http://here/v1', model: m}"]),
    ("evaluate", ["evaluation.judge.url=http://here/v1", "evaluation.judge.model=m"]),
    ("evaluate", ["model={path: some/model}"]),
])  # fmt: skip
def test_what_need_not_be_there_can_be_set_from_the_command_line(
    composed: Composed, command: str, overrides: list[str]
) -> None:
    plain, changed = composed(command, "data=instruct"), composed(command, "data=instruct", *overrides)

    def keys(config: Any) -> list[str]:
        if command == "evaluate":
            return [node.key for node in graph.evaluation(config)]
        return [graph.merged(config).key, graph.merge_sweep(config).key]

    assert keys(plain) != keys(changed)


def test_matched_recipes_depend_on_all_generators_and_the_ta_does_not(composed: Composed) -> None:
    def configured(recipe: str, *overrides: str) -> Any:
        return composed("train", f"data={recipe}", "select.num_examples=9", *overrides)

    matched = {
        recipe: graph.data(config, config.data)
        for recipe in ("strong", "micota", "mix_large")
        for config in [
            configured(recipe, "select.match=problems", "compare.recipes=[instruct,strong,micota,mix_large]")
        ]
    }
    for recipe, node in matched.items():
        assert list(node.inputs) == ["strong", "micota", "large", "small"]
        assert {label: child.key for label, child in node.inputs.items()} == {
            label: child.key for label, child in matched["strong"].inputs.items()
        }
        assert node.spec.compared["mix_large"] == {"large": 0.2, "small": 0.8} and node.choose == {"data": recipe}
    plain = configured("strong")
    (taught,) = [
        node for node in graph.unique([matched["micota"]]) if node.name == "strong" and node.spec.select.num_examples
    ]
    assert taught.key == graph.data(plain, plain.data).key, "what the TA learns is what it learns without a match"
    assert taught.choose == {"data": "strong", "select.match": "none"}


def test_every_command_for_matched_recipes_makes_what_others_need(composed: Composed) -> None:
    config = composed("train", "data=micota", "select.match=problems", "compare.recipes=[strong,mix_long,micota]")
    needed = [node for node in graph.unique([graph.data(config, config.data)]) if node.kind == "data"]
    for node in needed[:-1]:
        overrides = [f"{key}={value}" for key, value in node.choose.items()]
        alone = composed("generate", "select.match=problems", "compare.recipes=[strong,mix_long,micota]", *overrides)
        made = graph.unique([graph.data(alone, alone.data)])
        assert node.key in {other.key for other in made}, node.name


def test_recipes_outside_of_the_comparison_are_not_matched(composed: Composed) -> None:
    config = composed("train", "data=short", "select.match=tokens", "compare.recipes=[strong,micota]")
    with pytest.raises(ConfigError, match=r"compare.recipes alike \(strong, micota\), and data=short is none of them"):
        graph.data(config, config.data)
    with pytest.raises(ConfigError, match=r"compare.recipes names 'stong'; accepted: .*half_size, "):
        composed("train", "select.match=tokens", "compare.recipes=[stong]")
    config = composed(
        "train", "data=strong", "select.match=problems", "teacher.sampling={temperature: 1, num_samples: 2}"
    )
    with pytest.raises(ConfigError, match=r"several samples a problem \(strong\) and select.keep_sample=all"):
        graph.data(config, config.data)


def test_a_mixture_leaves_the_training_of_its_generators_alone(composed: Composed) -> None:
    more = [
        "+data@data.parts.mid=half_size",
        "+data.weights={mid: 0.1}",
        "data.weights.small=0.7",
        "select.num_examples=9",
    ]
    config = composed("train", "data=mix_large", *more)
    (tuned,) = [node for node in graph.unique([graph.data(config, config.data)]) if node.stage == "train"]
    assert tuned.key == graph.model(config, "ta_sft").key


@pytest.mark.parametrize(("method", "num_seeds"), [("dare_ties", 3), ("della", 3), ("ties", 1), ("slerp", 1)])
def test_a_merge_without_sampling_is_measured_once(composed: Composed, method: str, num_seeds: int) -> None:
    node = graph.merge_sweep(composed("merge", f"merge={method}", "merge_sweep.num_seeds=3"))
    assert node.spec.num_seeds == num_seeds


def test_the_order_of_a_grid_does_not_enter_its_key(composed: Composed) -> None:
    def key(*overrides: str) -> str:
        return graph.merge_sweep(composed("merge", *overrides)).key

    grid = ["merge_sweep.densities=[0.3,0.7]", "merge_sweep.weights=[0.2,0.4,0.6]"]
    again = ["merge_sweep.densities=[0.7,0.3]", "merge_sweep.weights=[0.6,0.2,0.4]"]
    assert key(*grid) == key(*again) != key(grid[0], "merge_sweep.weights=[0.2,0.4]")


def test_a_share_for_validation_has_the_key_of_its_division(composed: Composed) -> None:
    """Problems were divided by id alone, and are by question too: other examples of the same settings. What has no
    share keeps its key."""
    for share in (0.0, 0.25):
        config = composed("train", "experiment=tiny", "data=short", f"student.sft.validation_fraction={share}")
        node = graph.trained(config, "student")
        before = replace(node, spec=replace(node.spec, validation_of=None))
        assert (before.key == node.key) == (share == 0)


def test_settings_without_an_effect_enter_no_key(composed: Composed) -> None:
    config = composed("merge", "merge=linear")

    def merge(**changes: Any) -> str:
        return graph.merged(replace(config, merge=replace(config.merge, **changes))).folder

    unread = {"density": 0.5, "epsilon": 0.1, "gamma": 0.1, "normalize": True}
    assert merge(**unread) == merge() != merge(weight=0.3), "linear drops nothing and sums no task vectors"
    assert merge(method="ties", density=0.5) != merge(method="ties", density=0.4)
    grids = [replace(config, merge_sweep=replace(config.merge_sweep, densities=d)) for d in ([0.5], [0.2, 0.4])]
    assert len({graph.merge_sweep(grid).key for grid in grids}) == 1, "it would measure the same merge twice"
    teacher = replace(config.teacher.sampling, temperature=0.0)
    greedy, other = (
        replace(config, teacher=replace(config.teacher, sampling=replace(teacher, top_p=top_p))) for top_p in (0.9, 1)
    )
    assert graph.data(greedy, config.ta_data).key == graph.data(other, config.ta_data).key
    looser = replace(config, select=replace(config.select, loop_share=0.9))
    assert graph.data(looser, config.ta_data).key == graph.data(config, config.ta_data).key, "no filter of loops"


def test_batch_invariance_enters_all_keys_of_completions(composed: Composed) -> None:
    """One builder makes what determines answers, for data, evaluation and merge sweeps alike."""
    plain, invariant = (
        composed("evaluate", "engine=vllm", f"engine.batch_invariant={value}") for value in ("false", "true")
    )
    ray = composed("evaluate", "engine=ray")
    for made in (
        graph.merge_sweep,
        lambda config: graph.data(config, config.ta_data),
        lambda config: graph.scores(config, "ta")["gsm8k"],
    ):
        assert made(plain).key == made(ray).key != made(invariant).key


def test_sweeps_share_the_points_they_have_in_common(composed: Composed) -> None:
    def points(*overrides: str) -> list[str]:
        sweep = graph.merge_sweep(composed("merge", *overrides))
        ends = [graph.merge_point(sweep, form, None, None, 0).folder for form in ("before", "after")]
        return [*ends, graph.merge_point(sweep, "merged", 0.5, 0.25, 0).folder]

    plain = points()
    assert len(set(plain)) == 3
    assert points("merge_sweep.weights=[0.9]", "merge.target_length_ratio=0.5", "evaluation.grader=paper_rule") == plain
    assert points("merge=ties")[:2] == plain[:2] and points("merge=ties")[2] != plain[2]
    assert not set(points("merge_sweep.num_problems=5")) & set(plain)


TWO = ["merge.tuned.path=a/reasoner", "merge.base.path=a/instruct"]


def stages_of(node: Any) -> list[tuple[str, str]]:
    return [(child.stage, child.name) for child in graph.unique([node])]


def test_a_merge_of_models_that_exist_needs_no_teacher_and_no_training(composed: Composed) -> None:
    config = composed("train", "student=qwen1.5b", "data=micota", *TWO)
    assert stages_of(graph.model(config, "student")) == [
        ("merge", "reasoner.dare_ties-d0.5-w0.5"),
        ("generate", "reasoner.dare_ties-d0.5-w0.5@math12k"),
        ("select", "micota"),
        ("train", "qwen1.5b+micota"),
    ]
    merged = graph.merged(config)
    assert {label: child.spec.path for label, child in merged.inputs.items()} == {
        "base": "a/instruct",
        "tuned": "a/reasoner",
    }
    assert graph.model(config, "ta_sft").key == merged.inputs["tuned"].key, "it stands for the TA after SFT"
    changed = composed("train", "data=micota", *TWO, "teacher=qwq32b", "ta.sft.learning_rate=1", "data@ta_data=short")
    assert graph.merged(changed).key == merged.key


def test_what_is_merged_into_what(composed: Composed) -> None:
    def inputs(*overrides: str) -> dict[str, str]:
        return {label: child.name for label, child in graph.merged(composed("merge", *overrides)).inputs.items()}

    r1 = "model@merge.tuned=r1_qwen14b"
    assert inputs(r1) == {"base": "qwen14b", "tuned": "r1_qwen14b"}
    assert inputs(r1, "merge=dare_ties_pretrained") == {"base": "qwen14b_base", "tuned": "r1_qwen14b"}
    three = inputs(r1, "merge=dare_ties_pretrained", "model@merge.instruct=qwen14b")
    assert three == {"base": "qwen14b_base", "tuned": "r1_qwen14b", "instruct": "qwen14b"}
    with pytest.raises(ConfigError, match=r"merge: instruct\.path='a/b' without base\.path"):
        composed("merge", "merge.instruct.path=a/b")
    with pytest.raises(ConfigError, match=r"merge: method=slerp with a pre-trained base"):
        composed("merge", "merge=slerp", *TWO, "merge.instruct.path=a/b")
    assert inputs("merge=slerp", *TWO) == {"base": "instruct", "tuned": "reasoner"}


def test_a_model_in_place_of_the_tuned_ta_samples_as_the_ta_and_thinks_in_its_own_tags(composed: Composed) -> None:
    merge = ["model@merge.tuned=r1_qwen14b", "ta.sampling.temperature=0.3"]
    answers = graph.data(composed("generate", "data=micota", *merge), composed("generate", *merge).data)
    spec = answers.inputs["completions"].spec
    assert (spec.thinking.open, spec.sampling.temperature) == ("<think>", 0.3)


def test_filters_of_one_recipe_leave_the_ta_alone(composed: Composed) -> None:
    def keys(*overrides: str) -> tuple[str, str, list[str]]:
        config = composed("train", "data=micota", *overrides)
        node = graph.data(config, config.data)
        return node.key, graph.model(config, "ta_sft").key, node.spec.select.filters

    plain, own = keys(), keys("data.select.filters=[finished]", "data.select.max_tokens=99")
    assert (own[1], own[2]) == (plain[1], ["finished"]) and own[0] != plain[0]
    assert keys("ta_data.select.filters=[finished]")[1] != plain[1]
    mixed = composed("train", "data=mix_long", "data.select.max_tokens=99", "data.parts.short.select.max_tokens=5")
    parts = graph.data(mixed, mixed.data).inputs
    assert {label: part.spec.select.max_tokens for label, part in parts.items()} == {"long": 99, "short": 5}
    with pytest.raises(ConfigError, match=r"data\.select\.filters=\['best'\]; accepted: null, or a list of filters"):
        composed("train", "data.select.filters=[best]")


def test_any_model_generates(composed: Composed) -> None:
    def generator(*overrides: str) -> tuple[str, str, str | None, str]:
        config = composed("generate", *overrides)
        node = graph.data(config, config.data)
        model = node.inputs["completions"].inputs["model"]
        return node.name, model.spec.path, model.spec.revision, node.command + " " + str(dict(node.choose))

    by_path = generator("data=strong", "data.generator=a/mine")
    assert by_path == ("mine", "a/mine", None, "generate {'data': 'strong'}")
    assert generator("data=strong", "data.generator=a/mine", "data.name=other")[0] == "other"
    pinned = generator("data=strong", "data.generator=a/mine", "data.model.revision=v1")
    assert pinned[:3] == ("mine", "a/mine", "v1")
    by_option = generator("data=strong", "data.generator=model", "+model@data.model=qwen3_8b")
    assert by_option[1] == "Qwen/Qwen3-8B" and by_option[2] is not None
    with pytest.raises(ConfigError, match=r"generator=model, and model\.path is null"):
        generator("data=strong", "data.generator=model")
    with pytest.raises(ConfigError, match=r"data\.generator='ta_merge'; accepted: one of teacher, ta"):
        generator("data.generator=ta_merge")


def test_short_chains_of_thought_have_a_generator_of_their_own(composed: Composed) -> None:
    def short(*overrides: str) -> tuple[str, str]:
        config = composed("generate", "data=short", *overrides)
        return graph.data(config, config.data).inputs["completions"].inputs["model"].name, graph.merged(config).key

    plain, other = short("short_generator.path=null"), short()
    assert (plain[0], other[0]) == ("qwen14b", "qwen32b")
    assert plain[1] == other[1], "the TA is another model"


def test_a_released_checkpoint_stands_for_the_tuned_student(composed: Composed) -> None:
    config = composed("evaluate", "student=qwen3b", "data=released_mix_long")
    node = graph.model(config, "student")
    assert node.is_source and node.name == "Qwen2.5-3B-Instruct_Mix-Long"
    assert {scores.inputs["completions"].inputs["model"].key for scores in graph.evaluation(config)} == {node.key}
    with pytest.raises(ConfigError, match="data=released_mix_long is released checkpoints: it has no training data"):
        graph.trained(config, "student")
    other = composed("evaluate", "student=qwen7b", "data=released_mix_long")
    with pytest.raises(
        ConfigError, match=r"no released checkpoint of Qwen/Qwen2.5-7B-Instruct .*accepted: Qwen/Qwen2.5-3B"
    ):
        graph.evaluation(other)


def test_a_model_is_not_merged_with_itself(composed: Composed) -> None:
    same = "the same model; accepted: models with other weights"
    for overrides in (
        ["merge.tuned.path=a/b", "merge.base.path=a/b"],
        ["merge.tuned.path=Qwen/Qwen2.5-14B-Instruct", "merge.tuned.revision=${ta.revision}"],
        ["experiment=tiny", "merge.tuned.path=bundled:ta"],
    ):
        with pytest.raises(ConfigError, match=rf"merge\.tuned\.path='[\w/:.-]+': merge\.base is {same}"):
            graph.merged(composed("merge", *overrides))
    other = composed("merge", "merge.tuned.path=a/b", "merge.base.path=a/b", "merge.tuned.revision=step100")
    assert len(graph.merged(other).inputs) == 2, "another revision is another model"
