"""Merging against the mergekit command line: time and peak memory of one merge, and of a sweep; and the merge sweep
against merging to disk, loading and answering.

    python benchmarks/merge.py [--size small|1.5b] [--repeats 3] [--points 12] [--folder FOLDER]

Both merge the same two random Qwen2 models (--size 1.5b: the shape of Qwen2.5-1.5B in bfloat16, 3.1 GB each, which
needs 16 GB of disk), each in a fresh process, in turn; memory is the peak of the resident sets of the process and its
children. A sweep of micota loads every point into one model, in one process; that of mergekit is its median run times
the points.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

SHAPES = {
    "small": {"vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
              "num_attention_heads": 8, "num_key_value_heads": 2},
    "1.5b": {"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12, "num_key_value_heads": 2},
}  # fmt: skip
ASK = [{"role": "user", "content": "What is 2 + 2?"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="small")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the models; a temporary one if not given")
    parser.add_argument("--worker", choices=["models", "merge", "sweep", "merge_sweep"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.worker:
        workers = {"models": make_models, "merge": one_merge, "sweep": sweep, "merge_sweep": merge_sweep}
        workers[options.worker](options)
        return
    with ExitStack() as stack:
        if options.folder is None:
            options.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        compare(options)


def compare(options: argparse.Namespace) -> None:
    names = ("torch", "transformers", "mergekit")
    print(", ".join(f"{name} {metadata.version(name)}" for name in names) + f", {options.threads} thread(s)")
    if not (options.folder / "tuned" / "model.safetensors").exists():
        run(micota(options, "models"))
    pairs: list[Any] = []
    for _ in range(options.repeats):
        pairs.append((run(micota(options, "merge")), run(mergekit(options.folder))))
    for name, side in zip(("micota", "mergekit"), zip(*pairs, strict=True), strict=True):
        seconds, cpu, peak = (statistics.median(column) for column in zip(*side, strict=True))
        print(f"one merge, {name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 1e9:.2f} GB")
    ratios = [tuple(a / b for a, b in zip(*pair, strict=True)) for pair in pairs]
    time_ratio, cpu_ratio, memory_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"micota / mergekit: time {time_ratio:.2f}, CPU {cpu_ratio:.2f}, memory {memory_ratio:.2f} "
          f"(medians of {len(pairs)} pairs)")  # fmt: skip
    seconds, cpu, peak = run(micota(options, "sweep"))
    peer_seconds = options.points * statistics.median(pair[1][0] for pair in pairs)
    peer_cpu = options.points * statistics.median(pair[1][1] for pair in pairs)
    print(f"{options.points} points, micota in memory: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 1e9:.2f} GB; "
          f"{options.points} runs of mergekit: {peer_seconds:.0f} s, {peer_cpu:.0f} s of CPU; "
          f"ratio {seconds / peer_seconds:.3f}, of CPU {cpu / peer_cpu:.3f}")  # fmt: skip
    run(micota(options, "merge_sweep"), quiet=False)


def micota(options: argparse.Namespace, worker: str) -> list[str]:
    arguments = [f"--{name}={getattr(options, name)}" for name in ("size", "points", "threads", "folder")]
    return [sys.executable, __file__, f"--worker={worker}", *arguments]


def mergekit(folder: Path) -> list[str]:
    recipe = {
        "merge_method": "dare_ties", "base_model": str(folder / "base"), "dtype": "bfloat16",
        "models": [{"model": str(folder / "tuned"), "parameters": {"density": 0.5, "weight": 0.5}}],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    shutil.rmtree(folder / "mergekit", ignore_errors=True)
    program = str(Path(sys.executable).with_name("mergekit-yaml"))
    return [program, str(folder / "recipe.yaml"), str(folder / "mergekit"), "--random-seed", "42"]


def run(command: list[str], quiet: bool = True) -> tuple[float, float, int]:
    """Seconds, seconds of CPU, and peak memory in bytes of a process and its children."""
    before = os.times()
    start = time.perf_counter()
    output = subprocess.PIPE if quiet else None
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=output, stderr=errors) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.02)  # samples what is resident
        seconds = time.perf_counter() - start
        errors.seek(0)
        assert process.returncode == 0, errors.read().decode()[-2000:]
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, peak


def resident(pid: int) -> int:
    try:
        parent = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def make_models(options: argparse.Namespace) -> None:
    """Two random models, of which the second is near the first, with a tokenizer of bytes."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2Tokenizer

    vocabulary = {token: index for index, token in enumerate([*sorted(ByteLevel.alphabet()), "<eos>", "<pad>"])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token="<eos>", pad_token="<pad>")
    config = Qwen2Config(**SHAPES[options.size], tie_word_embeddings=True, eos_token_id=vocabulary["<eos>"])
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for name in ("base", "tuned"):
        model.save_pretrained(options.folder / name)
        tokenizer.save_pretrained(options.folder / name)
        with torch.no_grad():
            for values in model.parameters():
                values.add_(torch.randn_like(values), alpha=1e-3)


def recipe(**changes: Any) -> Any:
    from micota.graph import MergeSpec

    values = {
        "method": "dare_ties", "density": 0.5, "weight": 0.5, "instruct_density": None, "instruct_weight": None,
        "rescale": "dare", "normalize": False, "epsilon": 0.0, "gamma": 0.0, "dtype": "bfloat16", "seed": 42,
    }  # fmt: skip
    return MergeSpec(**values | changes)


def one_merge(options: argparse.Namespace) -> None:
    """One merge as in the stage, with all checks."""
    from micota.merging.merge import merge_models

    target = options.folder / "micota"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    locations = [(str(options.folder / name), None) for name in ("base", "tuned")]
    merge_models(recipe(), locations[0], locations[1:], target, ASK)


def grid(count: int) -> list[tuple[float, float]]:
    """Pairs of density and weight."""
    return [(density, weight) for density in (0.1, 0.3, 0.5, 0.7) for weight in (0.3, 0.5, 0.7)][:count]


def sweep(options: argparse.Namespace) -> None:
    """Load every point into an open engine, as a merge sweep."""
    from micota.config import EngineConfig
    from micota.engines.hf import HFEngine
    from micota.merging.models import open_models, tensor_names
    from micota.merging.sweep import Sweep

    folder = options.folder
    engine = HFEngine(EngineConfig(name="hf"), str(folder / "tuned"), None)
    with open_models([(str(folder / name), None) for name in ("base", "tuned")], folder / "scratch") as models:
        points = grid(options.points)
        densities = [density for density, _ in points]
        (folder / "scratch").mkdir(exist_ok=True)
        merges = Sweep(
            recipe(), models[0].checkpoint, [models[1].checkpoint], tensor_names(models), densities, folder / "scratch"
        )
        for density, weight in points:
            engine.load_weights(merges.merge(density, weight, seed=42).tensors())


def merge_sweep(options: argparse.Namespace) -> None:
    """Points of the bundled TA, moved a little: in memory, and by way of the disk; both in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from micota.config import EngineConfig, PromptConfig, SamplingConfig, SourceConfig
    from micota.data.prompts import messages, render
    from micota.data.sources import load_problems, model_folder
    from micota.engines.base import Request
    from micota.engines.hf import HFEngine
    from micota.export import export
    from micota.merging.merge import merge_models
    from micota.merging.models import open_models, tensor_names
    from micota.merging.stream import ModelMerge

    base, tuned = model_folder("bundled:ta"), str(options.folder / "moved")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn_like(values), alpha=0.01)
    export(model, AutoTokenizer.from_pretrained(base), Path(tuned))
    config = EngineConfig(name="hf", batch_size=128, dtype="float32")
    engine = HFEngine(config, tuned, None)
    problems = load_problems(SourceConfig(path="bundled:train.jsonl", id_column="id", limit=32))
    texts = [render(engine.tokenizer, messages(p.problem, PromptConfig(template="{problem}"))) for p in problems]
    ids = [engine.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    requests = [Request(id=(p.id, 0), prompt_ids=row, seed=0) for p, row in zip(problems, ids, strict=True)]

    def answers(engine: HFEngine) -> dict[Any, str]:
        sampling = SamplingConfig(temperature=0.0, max_tokens=128)
        return {output.id: output.text for output in engine.generate(requests, sampling)}

    specs = [replace(recipe(dtype="float32"), density=d, weight=w) for d, w in grid(options.points)]
    start = time.perf_counter()
    with open_models([(base, None), (tuned, None)], options.folder / "scratch") as models:
        fast = []
        for spec in specs:
            merge = ModelMerge(spec, models[0].checkpoint, [models[1].checkpoint], tensor_names(models))
            engine.load_weights(merge.tensors())
            fast.append(answers(engine))
    middle = time.perf_counter()
    slow = []
    for number, spec in enumerate(specs):
        target = options.folder / f"point-{number}"
        target.mkdir(exist_ok=True)
        merge_models(spec, (base, None), [(tuned, None)], target, [{"role": "user", "content": problems[0].problem}])
        slow.append(answers(HFEngine(config, str(target), None)))
    end = time.perf_counter()
    same = sum(a[key] == b[key] for a, b in zip(fast, slow, strict=True) for key in a)
    total = len(specs) * len(requests)
    ratio = (middle - start) / (end - middle)
    print(f"sweep of {len(specs)} points of bundled:ta, {len(requests)} problems: {middle - start:.1f} s, by way of "
          f"the disk {end - middle:.1f} s; ratio {ratio:.2f}; same completions {same} of {total}")  # fmt: skip


if __name__ == "__main__":
    main()
