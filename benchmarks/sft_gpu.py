"""Full fine-tuning of Qwen2.5 architectures (random weights) on one GPU, 16K packed, against TRL in the same session.

    python benchmarks/sft_gpu.py [--sizes 1.5b,3b,7b] [--contenders micota,trl]
    python benchmarks/sft_gpu.py --device cpu --sizes tiny --examples 8  # a dry run of all of it, without a GPU

``make gpu`` runs it, and more. Lengths are sampled like those of long chains of thought (log-normal, median 4,096
tokens, at most ``--pack-length``), the same for both. Each contender runs in a separate process; the first steps, which
choose and compile kernels, are not counted if there are others. Useful tokens are supervised tokens; MFU counts what
``Shape.flops`` counts, for both.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from micota.config import SftConfig, TrainerConfig
from micota.config.optimizers import OPTIMIZERS
from micota.sft import attention, losses
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.compiling import compile_layers
from micota.sft.data import SftDataModule
from micota.sft.device import peak_flops, peak_memory_bytes
from micota.sft.memory import memory_bytes, most_tokens
from micota.sft.module import SftModule
from micota.sft.packing import Tokens
from micota.sft.shape import Shape
from micota.sft.sharding import devices, in_this_process

SIZES: dict[str, dict[str, Any]] = {  # hidden, intermediate, layers, heads, heads for keys and values, vocabulary, tied
    "tiny": dict(zip("hilakvt", (64, 128, 2, 2, 1, 512, True), strict=True)),
    "1.5b": dict(zip("hilakvt", (1536, 8960, 28, 12, 2, 151936, True), strict=True)),
    "3b": dict(zip("hilakvt", (2048, 11008, 36, 16, 2, 151936, True), strict=True)),
    "7b": dict(zip("hilakvt", (3584, 18944, 28, 28, 4, 152064, False), strict=True)),
    "14b": dict(zip("hilakvt", (5120, 13824, 48, 40, 8, 152064, False), strict=True)),
}
WARM_UP = 2  # steps that are not counted, if there are more
# Categories of a profile by words in the names of kernels; the first that fits counts. On CPU names are operators'.
CATEGORIES = {
    "attention": ("flash", "fmha", "attention", "attn"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk", "aten::mm", "aten::addmm", "aten::linear"),
    "optimiser": ("multi_tensor", "adam"),
    "communication": ("nccl",),
    "copies and casts": ("memcpy", "memset", "copy", "catarray", "aten::cat", "aten::to", "fill"),
    "sums and norms": ("reduce", "norm", "softmax", "sum", "mean"),
    "other elementwise": ("elementwise", "vectorized", "triton", "liger", "index", "gather", "scatter", "aten::"),
}


def architecture(size: str) -> Qwen2Config:
    s = SIZES[size]
    return Qwen2Config(
        hidden_size=s["h"], intermediate_size=s["i"], num_hidden_layers=s["l"], num_attention_heads=s["a"],
        num_key_value_heads=s["k"], vocab_size=s["v"], tie_word_embeddings=s["t"], max_position_embeddings=32768,
    )  # fmt: skip


def examples(options: argparse.Namespace, vocabulary: int) -> list[Tokens]:
    generator = np.random.default_rng(0)
    median = min(4096, options.pack_length // 4)
    lengths = np.exp(generator.normal(np.log(median), 0.6, options.examples)).clip(32, options.pack_length).astype(int)
    return [Tokens(ids=generator.integers(1, vocabulary, n).tolist(), num_prompt=min(128, n // 4)) for n in lengths]


def run_micota(options: argparse.Namespace, size: str) -> dict[str, Any]:
    trainer = TrainerConfig(
        name="benchmark", accelerator="gpu" if options.device == "cuda" else "cpu", precision=options.precision,
        pack_length=options.pack_length, activation_checkpointing=options.checkpointing, compile=options.compile,
    )  # fmt: skip
    with in_this_process(trainer):  # sets the allocator up, as in training
        return fit(options, architecture(size), trainer)


def fit(options: argparse.Namespace, config: Qwen2Config, trainer: TrainerConfig) -> dict[str, Any]:
    from lightning.pytorch import Callback, Trainer

    on_gpu = options.device == "cuda"
    kernel = attention.choose("auto", options.device, config, options.precision)
    model = build(options, config, attention.implementation(kernel))
    if trainer.compile:
        compile_layers(model)
    tokens = examples(options, config.vocab_size)
    shape, longest = Shape.of(model), max(len(t.ids) for t in tokens)
    shape = replace(shape, moment_bytes=OPTIMIZERS[options.optimizer].moment_bytes)
    most = most_tokens(shape, trainer, longest)
    sft = SftConfig(learning_rate=1e-5, batch_size=options.batch_size, epochs=1, optimizer=options.optimizer)
    data = SftDataModule(tokens, sft, trainer, seed=0)
    times: list[float] = []  # the start, and the end of each step
    profile = Profile(on_gpu)

    class Times(Callback):
        def on_train_start(self, *_: Any) -> None:
            times.append(time.perf_counter())

        def on_train_batch_start(self, *_: Any) -> None:
            if options.profile and len(times) == len(data.steps):
                profile.start()

        def on_train_batch_end(self, *_: Any) -> None:
            profile.stop()
            times.append(time.perf_counter())

    loss = losses.choose("auto", options.device)
    objective = losses.Objective(model, loss, ActivationCheckpointing(model, most, compiled=trainer.compile))
    module = SftModule(objective, sft, trainer, len(data.steps))
    loop = Trainer(
        accelerator=trainer.accelerator, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Times()], **devices(trainer),
    )  # fmt: skip
    loop.fit(module, data)
    first = warm_up(times)
    counted = [i for step in data.steps[first:] for i in step]
    result = summary(shape, trainer, [tokens[i] for i in counted], times[-1] - times[first])
    kinds = {"attention": kernel, "loss": objective.function.__name__, "checkpointing": ", ".join(most)}
    estimate = sum(memory_bytes(shape, trainer, longest, most).values())
    settings = f"{options.precision}, {options.optimizer}"
    sizes = {"steps": len(data.steps), "estimated_bytes": estimate, "settings": settings}
    return result | kinds | sizes | {"profile": profile.shares()}


def run_trl(options: argparse.Namespace, size: str) -> dict[str, Any]:
    """TRL at its best here: packed, FlashAttention-2 and Liger where they are installed."""
    from importlib.util import find_spec

    import datasets
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    on_gpu = options.device == "cuda"
    config = architecture(size)
    kernel = "flash_attention_2" if on_gpu and find_spec("flash_attn") else "sdpa"
    model = build(options, config, kernel)
    tokens = examples(options, config.vocab_size)
    shape = Shape.of(model)
    rows = [
        {"input_ids": t.ids, "completion_mask": [0] * t.num_prompt + [1] * (len(t.ids) - t.num_prompt)} for t in tokens
    ]
    times: list[float] = []

    class Times(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    vocabulary = {"<pad>": 0, "<eos>": 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>"
    )
    average = sum(len(t.ids) for t in tokens) / len(tokens)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, learning_rate=1e-5, num_train_epochs=1, per_device_train_batch_size=1,
            gradient_accumulation_steps=max(1, round(options.batch_size * average / options.pack_length)),
            max_length=options.pack_length, packing=True, gradient_checkpointing=True, completion_only_loss=True,
            bf16=on_gpu, use_cpu=not on_gpu, use_liger_kernel=bool(on_gpu and find_spec("liger_kernel")),
            optim="adamw_torch_fused", save_strategy="no", report_to=[], disable_tqdm=True,
        )  # fmt: skip
        SFTTrainer(
            model=model, args=arguments, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[Times()],
        ).train()  # fmt: skip
    trainer = TrainerConfig(name="benchmark", accelerator="gpu" if on_gpu else "cpu", precision=options.precision)
    first, steps = warm_up(times), len(times) - 1
    seconds = (times[-1] - times[first]) * steps / (steps - first)  # its steps hold whole rows: all are about alike
    kinds = {"attention": kernel, "loss": "TRL", "checkpointing": "full", "steps": steps}
    return summary(shape, trainer, tokens, seconds) | kinds


def warm_up(times: list[float]) -> int:
    """The number of first steps that are not counted; ``times`` are the start and the end of each step."""
    return max(0, min(WARM_UP, len(times) - 2))


class Profile:
    """Time of kernels by category, of what runs between ``start`` and ``stop``."""

    def __init__(self, on_gpu: bool) -> None:
        kind = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
        self._profiler, self._on_gpu = torch.profiler.profile(activities=[kind]), on_gpu
        self._began, self._seconds = 0.0, 0.0

    def start(self) -> None:
        self._profiler.start()
        self._began = time.perf_counter()

    def stop(self) -> None:
        if not self._began or self._seconds:
            return
        if self._on_gpu:
            torch.cuda.synchronize()
        self._seconds = time.perf_counter() - self._began
        self._profiler.stop()

    def shares(self) -> dict[str, float]:
        """The share of the wall time by category, ``idle`` for the rest; empty without a profile."""
        if not self._seconds:
            return {}
        spent: Counter[str] = Counter()
        for event in self._profiler.key_averages():
            microseconds = event.self_device_time_total if self._on_gpu else event.self_cpu_time_total
            spent[category(event.key)] += microseconds / 1e6 / self._seconds
        return dict(spent) | {"idle": max(0.0, 1 - sum(spent.values()))}


def category(kernel: str) -> str:
    """The category of a kernel by its name."""
    name = kernel.lower()
    return next((key for key, words in CATEGORIES.items() if any(word in name for word in words)), "rest")


def build(options: argparse.Namespace, config: Qwen2Config, kernel: str) -> Any:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if options.precision == "bf16-true" else torch.float32
    with torch.device(options.device):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=kernel, dtype=dtype)
    return model.train()


def summary(shape: Shape, trainer: TrainerConfig, tokens: list[Tokens], seconds: float) -> dict[str, Any]:
    useful = sum(len(t.ids) - t.num_prompt for t in tokens)
    flops, peak = shape.flops([len(t.ids) for t in tokens], useful), peak_flops(trainer)
    return {
        "tokens_per_s": useful / seconds,
        "all_tokens_per_s": sum(len(t.ids) for t in tokens) / seconds,
        "mfu": flops / seconds / peak if peak else None,
        "peak_bytes": peak_memory_bytes(),
        "reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
        "host_bytes": psutil.Process().memory_info().rss,
        "host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--sizes", default="1.5b,3b,7b")
    parser.add_argument("--contenders", default="micota,trl")
    parser.add_argument("--precision", default="bf16-mixed", choices=["bf16-mixed", "bf16-true", "32-true"])
    parser.add_argument("--checkpointing", default="auto", help="trainer.activation_checkpointing here")
    parser.add_argument("--compile", action="store_true", help="trainer.compile here")
    parser.add_argument("--optimizer", default="adamw", help="sft.optimizer here")
    parser.add_argument("--profile", action="store_true", help="the last step by category of kernels")
    parser.add_argument("--pack-length", type=int, default=16384)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: no GPU here (--device cpu --sizes tiny is a dry run)")
        return
    if options.run:
        contender, size = options.run.split(":")
        result = run_micota(options, size) if contender == "micota" else run_trl(options, size)
        print("\n" + json.dumps(result))
        return
    columns = ["size", "contender", "useful tok/s", "MFU", "peak memory", "attention, loss", "checkpointing"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for size in options.sizes.split(","):
        for contender in options.contenders.split(","):
            results = [start(contender, size) for _ in range(options.repeats)]
            speed = statistics.median(result["tokens_per_s"] for result in results)
            last = results[-1]
            mfu = "" if last["mfu"] is None else f"{100 * last['mfu']:.0f} %"
            kernels = f"{last['attention']}, {last['loss']}"
            cells = [size, contender, f"{speed:.0f}", mfu, f"{last['peak_bytes'] / 1e9:.1f} GB", kernels]
            print(f"| {' | '.join([*cells, last['checkpointing']])} |", flush=True)


def start(contender: str, size: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--run", f"{contender}:{size}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{contender} failed:\n{finished.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
