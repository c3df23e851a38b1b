"""The loss on labelled tokens, forward and backward: the chunked loss here against PyTorch's linear_cross_entropy.

    python benchmarks/losses.py [--sizes 512x576x49152,...] [--repeats 3] [--threads 1] [--device cpu]

A size is tokens x hidden x vocabulary, as of the output head of SmolLM2 (576 x 49152) or Qwen2.5-0.5B (896 x 151936).
All contenders compute the sum of the negative log-likelihoods over a divisor, in float32, and leave the gradients of
the hidden states and of the output head, which already has one of an earlier micro-batch. Each runs in a separate
process, in turn. Memory is the peak of a process beyond inputs and that gradient. ``reference`` builds all logits.
Needs torch 2.13 for linear_cross_entropy.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from micota.sft.activations import CHUNK_LOGITS
from micota.sft.losses import summed_nll

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def chunked(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float) -> torch.Tensor:
    return summed_nll(hidden, weight, labels, divisor)


def chunked_in_place(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float) -> torch.Tensor:
    return summed_nll(hidden, weight, labels, divisor, into=weight.grad)


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float
) -> torch.Tensor:
    """With the chunks that PyTorch chooses."""
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(hidden, weight, labels, reduction="sum", options=options) / divisor


def linear_cross_entropy_same_rows(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float
) -> torch.Tensor:
    """With as many tokens in a chunk as here."""
    rows = max(1, CHUNK_LOGITS[hidden.device.type] // len(weight))
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows, chunking_method=None)
    return functional.linear_cross_entropy(hidden, weight, labels, reduction="sum", options=options) / divisor


def reference(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, divisor: float) -> torch.Tensor:
    return functional.cross_entropy(functional.linear(hidden, weight), labels, reduction="sum") / divisor


CONTENDERS: dict[str, Loss] = {
    function.__name__: function
    for function in (chunked, chunked_in_place, linear_cross_entropy, linear_cross_entropy_same_rows, reference)
}


def run(options: argparse.Namespace) -> None:
    """One contender at one size, in this process; prints its result as JSON."""
    torch.set_num_threads(options.threads)
    tokens, hidden_size, vocabulary = map(int, options.sizes.split("x"))
    loss_of = CONTENDERS[options.run]
    loss_of(*inputs(8, 8, 16, options.device), 8.0).backward()  # imports and workspaces are not counted
    hidden, weight, labels = inputs(tokens, hidden_size, vocabulary, options.device)
    before = peak_bytes(options.device)
    began, busy = now(options.device), time.process_time()
    loss = loss_of(hidden, weight, labels, 2.0 * tokens)
    loss.backward()
    seconds, busy = now(options.device) - began, time.process_time() - busy
    held = peak_bytes(options.device) - before
    assert hidden.grad is not None and weight.grad is not None
    result = {"seconds": seconds, "cpu_seconds": busy, "bytes": held, "loss": float(loss.detach())}
    print(json.dumps(result | {"norms": [float(hidden.grad.norm()), float(weight.grad.norm())]}))


def inputs(tokens: int, hidden_size: int, vocabulary: int, device: str) -> tuple[torch.Tensor, ...]:
    """Hidden states, the weight of an output head that has a gradient already, and labels."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, hidden_size, generator=generator).to(device).requires_grad_()
    weight = torch.randn(vocabulary, hidden_size, generator=generator).mul_(0.02).to(device).requires_grad_()
    weight.grad = torch.zeros_like(weight)
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=generator).to(device)


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def start(options: argparse.Namespace, contender: str, size: str) -> dict[str, Any]:
    settings = ["--threads", str(options.threads), "--device", options.device]
    command = [sys.executable, __file__, *settings, "--sizes", size, "--run", contender]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{contender} failed:\n{finished.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def compare(options: argparse.Namespace, size: str) -> None:
    """Print a row for each contender; refuse results that differ by more than rounding."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(options.repeats):
        for name in results:
            results[name].append(start(options, name, size))
    expected = results["reference"][0]
    for name, runs in results.items():
        seconds, cpu = (statistics.median(row[field] for row in runs) for field in ("seconds", "cpu_seconds"))
        held = max(row["bytes"] for row in runs) / 2**20
        pairs = zip([runs[0]["loss"], *runs[0]["norms"]], [expected["loss"], *expected["norms"]], strict=True)
        error = max(abs(value - reference) / abs(reference) for value, reference in pairs)
        if error > 1e-4:
            sys.exit(f"{name} at {size}: loss or gradients differ from the reference by {error:.1e} of their size")
        print(f"| {size} | {name} | {seconds:.2f} s | {cpu:.2f} s | {held:.0f} MiB | {error:.0e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="4096x64x512,512x576x49152,2048x576x49152,512x896x151936")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not hasattr(functional, "linear_cross_entropy"):
        sys.exit(f"error: torch {torch.__version__} has no linear_cross_entropy; this benchmark needs torch 2.13")
    if options.run:
        run(options)
        return
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.device}, float32")
    print("| tokens x hidden x vocabulary | loss | wall, median | CPU, median | memory | error |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes.split(","):
        compare(options, size)


if __name__ == "__main__":
    main()
