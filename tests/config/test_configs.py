"""Every YAML composes and parses; every mistake gives one line that names key, value and accepted form."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import thorough_after
from omegaconf.errors import OmegaConfBaseException

from micota import graph
from micota.cli import app as commands
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call
from micota.data.sources import model_folder
from micota.errors import ConfigError

GROUPS = sorted(path.name for path in commands.CONF.iterdir() if path.is_dir())
OPTIONS = {  # experiments have tests of their own, and their toy versions run (test_experiments.py)
    group: [
        str(path.relative_to(commands.CONF / group).with_suffix(""))
        for path in sorted((commands.CONF / group).rglob("*.yaml"))
        if not path.name.startswith("_")  # a part of options
    ]
    for group in GROUPS
    if group != "experiment"
}


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_commands_compose(composed: Callable[..., Any], command: str) -> None:
    assert composed(command).teacher.name == "r1_qwen32b"


@pytest.mark.parametrize("number", thorough_after(8, [*range(max(map(len, OPTIONS.values())))]))
def test_every_option_composes_and_parses(composed: Callable[..., Any], number: int) -> None:
    """One option of each group at a time, since a composition takes Hydra a fifth of a second."""
    chosen = {group: options[number % len(options)] for group, options in OPTIONS.items()}
    keys = {"model": "model@large"}
    values = {group: f"[{option}]" if group in ("bench", "compat") else option for group, option in chosen.items()}
    given = ["engine.chat.url=http://localhost:8000/v1"] if chosen["engine"] == "chat" else []  # it has no default
    config = composed("train", *(f"{keys.get(group, group)}={value}" for group, value in values.items()), *given)
    for group in ("teacher", "ta", "student", "data"):
        assert getattr(config, group).name == chosen[group] or chosen[group].startswith("tiny")


def test_presets_of_the_published_code_win_over_experiments(composed: Callable[..., Any]) -> None:
    ours, theirs = (composed("train", "experiment=tiny", f"compat=[{option}]") for option in ("", "paper"))
    assert ours.select.decontaminate == "exact" and theirs.select.decontaminate == "none"
    assert ours.prompt.generation_as_chat and not theirs.prompt.generation_as_chat
    assert theirs.prompt.template == "{problem}" and theirs.prompt.evaluation_template.startswith("Solve the")
    assert (theirs.evaluation.grader, theirs.evaluation.sampling.max_tokens) == ("paper_rule", 16000)
    assert composed("train", "compat=[paper]", "evaluation.grader=typed").evaluation.grader == "typed"


def test_the_papers_prompt_is_the_same_as_a_group_and_as_presets(composed: Callable[..., Any]) -> None:
    assert composed("train", "prompt=paper").prompt == composed("train", "compat=[paper]").prompt


def test_schema_defaults_can_be_overridden_without_plus(composed: Callable[..., Any]) -> None:
    assert composed("train", "student.sft.weight_decay=0").student.sft.weight_decay == 0


def test_experiment_wins_over_defaults_and_command_line_over_both(composed: Callable[..., Any]) -> None:
    assert composed("train", "experiment=tiny").select.max_tokens == 260
    assert composed("train", "experiment=tiny", "select.max_tokens=99").select.max_tokens == 99


def test_bundled_revisions_match_files() -> None:
    with hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        for path in (commands.CONF / "model").glob("tiny_*.yaml"):
            name = path.stem.removeprefix("tiny_")
            model = hydra.compose("train", overrides=[f"model@large=tiny_{name}"]).large
            folder = Path(model_folder(model.path))
            content = (folder / "model.safetensors").read_bytes() + (folder / "tokenizer.json").read_bytes()
            expected = hashlib.sha256(content).hexdigest()[:12]
            assert model.revision == expected, f"conf/model/tiny_{name}.yaml names other files"


BAD = [
    # overrides, what the error must name
    ("train", ["student=qwen9b"], ["student=qwen9b", "qwen1.5b", "did you mean 'qwen7b'"]),
    ("train", ["student=tniy"], ["student=tniy: no such option; did you mean 'tiny'?", "qwen1.5b"]),
    ("train", ["seed=${nope}"], ["seed: Interpolation key 'nope' not found", "at least 0"]),
    ("train", ["name=${oc.env:NOPE}"], ["name: ", "Environment variable 'NOPE' not found", "letters"]),
    ("train", ["~seed"], ["seed is removed", "at least 0"]),
    ("train", ["a b=3"], ["a b=3: it cannot be read", "KEY=VALUE"]),
    ("train", ["seed=[1"], ["seed=[1: it cannot be read", "KEY=VALUE"]),
    ("train", ["hydra/launcher=nope"], ["hydra/launcher=nope: no such option", "submitit_slurm"]),
    ("evaluate", ["model.path="], ["model.path=''", "null, a hub id, a folder or bundled:NAME"]),
    ("train", ["data.path="], ["data.path=''", "a file, a folder"]),
    ("evaluate", ["bench=[]"], ["bench is not set", "bench=[gsm8k]"]),
    ("evaluate", ["bench@decontaminate_against=[]"], ["decontaminate_against is not set", "select.decontaminate=none"]),
    ("evaluate", ["model=qwen7"], ["model=qwen7: no such option; did you mean 'qwen7b'?"]),
    ("train", ["studnt=qwen7b"], ["studnt", "did you mean 'student'"]),
    ("train", ["student.sft.learning_rat=1"], ["student.sft.learning_rat", "did you mean 'learning_rate'"]),
    ("train", ["student.sft.epochs=many"], ["student.sft.epochs", "many", "a number"]),
    ("train", ["student.sft.epochs=0"], ["student.sft.epochs=0", "above 0"]),
    ("train", ["student.sft.learning_rate=-1e-5"], ["student.sft.learning_rate", "above 0"]),
    ("train", ["student.sft.learning_rate=inf"], ["student.sft.learning_rate", "above 0"]),
    ("train", ["student.sft.warmup_ratio=2"], ["student.sft.warmup_ratio=2", "0 to 1"]),
    ("train", ["seed=-1"], ["seed=-1", "at least 0"]),
    ("train", ["seed=1.5"], ["seed", "1.5"]),
    ("train", ["+nonsense=1"], ["nonsense", "no such key"]),
    ("train", ["+student.nonsense=1"], ["student.nonsense", "no such key"]),
    ("train", ["nonsense"], ["nonsense", "KEY=VALUE"]),
    ("train", ["role=boss"], ["role='boss'", "student, ta"]),
    ("train", ["trainer=tpu"], ["trainer=tpu", "cpu"]),
    ("train", ["trainer.precision=8"], ["trainer.precision", "bf16-true"]),
    ("train", ["trainer.attention=magic"], ["trainer.attention='magic'", "varlen"]),
    ("train", ["trainer=cpu", "trainer.cpu_offload=true"], ["trainer", "cpu_offload=True", "trainer=gpu"]),
    ("train", ["trainer.devices=0"], ["trainer.devices=0", "above 0"]),
    ("train", ["trainer.devices=2", "trainer.evaluate_every=9"], ["evaluate_every=9 with 2 devices", "devices=1"]),
    ("train", ["trainer.activation_checkpointing=some"], ["trainer.activation_checkpointing='some'", "selective"]),
    ("train", ["student.sft.validation_fraction=1"], ["student.sft.validation_fraction=1", "below 1"]),
    ("train", ["student=qwen14b_lora", "student.sft.lora.r=0"], ["student.sft.lora.r=0", "above 0"]),
    ("train", ["student=qwen14b_lora", "student.sft.lora.targets=[]"], ["student.sft.lora.targets=[]", "all-linear"]),
    ("train", ["student.sft.lora.alpha=8"], ["student.sft.lora", "alpha=8 without a rank", "r above 0"]),
    ("train", ["show_samples=-1"], ["show_samples=-1", "at least 0"]),
    ("train", ["trainer.pack_length=0"], ["trainer.pack_length=0", "above 0"]),
    ("train", ["data.path=nope.jsonl"], ["data.path='nope.jsonl'", "no such file"]),
    ("train", ["student.path=./nope"], ["student.path='./nope'", "no such file"]),
    ("train", ["num_threads=0"], ["num_threads=0", "above 0"]),
    ("generate", ["data=mix_long", "data.weights.long=0.5"], ["data", "0.5", "sum to 1"]),
    ("generate", ["data=mix_long", "data.weights.long=-0.2", "data.weights.short=1.2"], ["data", "-0.2", "above 0"]),
    ("generate", ["data=most_likely", "data.select_by=teacher_bpc"], ["data.select_by='teacher_bpc'", "student_bpc"]),
    ("generate", ["data=mix_long", "data.select_by=student_bpc"], ["data", "select_by", "no weights"]),
    (
        "generate",
        ["data=most_likely", "data.select_by=null"],
        ["data: weights={}", "a number for each of the parts", "half_size"],
    ),
    ("generate", ["data.select_by=student_bpc"], ["data", "select_by=student_bpc", "at least one part"]),
    ("generate", ["data.generator=nobody"], ["data.generator='nobody'", "ta_merged"]),
    ("generate", ["select.filters=[correct,nice]"], ["select.filters", "nice", "finished"]),
    ("generate", ["select.keep_sample=longest"], ["select.keep_sample='longest'", "shortest, median, all"]),
    ("generate", ["select.decontaminate=maybe"], ["select.decontaminate='maybe'", "near_duplicate, exact, none"]),
    ("generate", ["bench@decontaminate_against=[nope]"], ["nope", "math500"]),
    (
        "generate",
        ["decontaminate_against.gsm8k.path=./nope.jsonl"],
        ["decontaminate_against.gsm8k.path='./nope.jsonl'", "no such file"],
    ),
    ("generate", ["prompt.template=hello"], ["prompt.template='hello'", "{problem}"]),
    ("generate", ["teacher.sampling.temperature=-1"], ["teacher.sampling.temperature=-1", "0 (greedy)"]),
    ("generate", ["teacher.sampling.top_p=0"], ["teacher.sampling.top_p=0", "from 0.0001"]),
    ("generate", ["teacher.sampling.num_samples=4"], ["teacher.sampling", "num_samples=4", "temperature"]),
    ("generate", ["name=a/b"], ["name='a/b'", "letters"]),
    ("merge", ["merge.density=0"], ["merge.density=0", "above 0"]),
    ("merge", ["merge.weight=half"], ["merge.weight='half'", "a number, or a list of such"]),
    ("merge", ["merge.weight=.inf"], ["merge.weight='.inf'", "a number, or a list of such"]),
    ("merge", ["merge.method=magic"], ["merge.method='magic'", "dare_ties"]),
    ("merge", ["merge.density=1.5"], ["merge.density=1.5", "at most 1"]),
    ("merge", ["merge.density=[0.5,0]"], ["merge.density=[0.5, 0]", "gradient"]),
    ("merge", ["merge.density=[]"], ["merge.density=[]", "above 0"]),
    ("merge", ["merge.weight=[{filter: mlp}]"], ["merge.weight", "mlp", "{filter, value}"]),
    ("merge", ["merge=magic"], ["merge=magic", "dare_ties", "slerp"]),
    ("merge", ["merge=ties", "merge.rescale=dare"], ["merge", "rescale=dare", "norm or none"]),
    ("merge", ["merge=della", "merge.density=0.9"], ["merge", "density=0.9", "epsilon=0.15", "between 0 and 1"]),
    ("merge", ["merge=dare_ties_pretrained", "merge.method=slerp"], ["merge", "slerp", "base.path=null"]),
    ("merge", ["merge.target_length_ratio=1.5"], ["merge.target_length_ratio=1.5", "below 1"]),
    ("merge", ["merge_sweep.weights=[0]"], ["merge_sweep.weights=[0", "above 0"]),
    ("merge", ["merge_sweep.num_seeds=0"], ["merge_sweep.num_seeds=0", "above 0"]),
    ("evaluate", ["bench=[paper,nope]"], ["bench=nope", "math500"]),
    ("evaluate", ["bench.math500.num_rows=-1"], ["bench.math500.num_rows=-1", "above 0"]),
    ("evaluate", ["role=ta", "rank_shift=true"], ["rank_shift=true with role=ta", "data=micota"]),
    ("evaluate", ["data=instruct", "rank_shift=true"], ["rank_shift=true with data=instruct"]),
    ("evaluate", ["regrade=true", "rank_shift=true"], ["rank_shift=true grades nothing"]),
    ("evaluate", ["engine.batch_size=0"], ["engine.batch_size=0", "above 0"]),
    (
        "generate",
        ["engine=hf", "engine.tensor_parallel=2"],
        ["engine:", "tensor_parallel=2", "this is hf"],
    ),
    ("generate", ["engine=vllm", "engine.memory_fraction=0"], ["engine.memory_fraction=0", "above 0 and at most 1"]),
    ("generate", ["engine=server", "engine.server.url=here"], ["engine.server.url='here'", "OpenAI-compatible"]),
    ("generate", ["engine=server", "engine.tensor_parallel=2"], ["tensor_parallel=2", "this is server"]),
    ("generate", ["engine=ray2"], ["engine=ray2", "hf, ray, server, vllm"]),
    ("pipeline", ["runner=inprocess", "jobs=2"], ["jobs=2", "inprocess", "subprocess"]),
    ("pipeline", ["runner=magic"], ["runner='magic'", "submitit"]),
    ("pipeline", ["compare.measures=[speed]"], ["compare.measures=['speed']", "teacher, merges, merge_sweep"]),
    ("pipeline", ["compare.recipes=[]"], ["compare.recipes=[]", "label"]),
    ("pipeline", ["compare.recipes=[strong,strong]"], ["compare.recipes=['strong', 'strong']", "different"]),
    ("pipeline", ["+compare.axes.student=[{a: [epochs]}]"], ["compare.axes", "epochs", "{label: [overrides]}"]),
    ("pipeline", ["+compare.axes.data=[strong]"], ["compare.axes", "other than data"]),
    ("pipeline", ["compat=[papers]"], ["compat=papers", "paper_grader"]),
    ("pipeline", ["experiment=mix_distilation/mix"], ["experiment=mix_distilation/mix", "mix_distillation/mix"]),
    ("pipeline", ["compare.merge_weights=[2]"], ["compare.merge_weights=[2", "at most 1"]),
    ("pipeline", ["tracker.mode=loud"], ["tracker.mode='loud'", "offline"]),
]


@pytest.mark.parametrize(("command", "overrides", "named"), BAD, ids=[" ".join(bad[1]) for bad in BAD])
def test_mistakes_give_one_clear_line(
    composed: Callable[..., Any], command: str, overrides: list[str], named: list[str]
) -> None:
    with pytest.raises(Exception) as caught:
        composed(command, *overrides)
    assert is_users(caught.value)
    text = one_line(caught.value, SCHEMAS[command], Call(overrides=overrides))
    assert "\n" not in text
    for part in named:
        assert part in text


def test_mistakes_in_the_graph(composed: Callable[..., Any]) -> None:
    config = composed("train", "data=instruct")
    with pytest.raises(ConfigError, match="data=instruct is the student before SFT"):
        graph.trained(config, "student")


@pytest.mark.parametrize(("command", "overrides", "named"), [BAD[0], BAD[2]])
def test_mistakes_exit_with_2_and_no_traceback(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    command: str,
    overrides: list[str],
    named: list[str],
) -> None:
    finished = run_command(command, *overrides)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert "Traceback" not in finished.stderr
    assert not list(tmp_path.iterdir()), "a mistake left something behind"
    assert "Traceback" in run_command(command, *overrides, HYDRA_FULL_ERROR="1").stderr


def test_errors_of_omegaconf_are_user_errors() -> None:
    assert is_users(OmegaConfBaseException("no"))


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), OSError("no"), KeyError("no")])
def test_other_errors_are_bugs(error: Exception) -> None:
    assert not is_users(error)
