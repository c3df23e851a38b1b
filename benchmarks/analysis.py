"""BPC and rank shift against two plain loops, in turn, in one run: same model, same texts.

    python benchmarks/analysis.py [--model bundled:student] [--write long] [--texts 200] [--repeats 5] [--threads 1]
    python benchmarks/analysis.py --model random --texts 24 --repeats 3    # 16M parameters, vocabulary 49,152

The loop takes one text at a time in float32 and has the logits of all its positions; ranks are counted there. The
reference is the same loop in float64 for BPC, and with the vocabulary sorted at each position for ranks.
Results are compared with the loop's. Seconds are of CPU time; a ratio is the median of neighbouring pairs.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from micota.config import SourceConfig
from micota.data.prompts import messages
from micota.data.sources import load_problems, model_folder
from micota.forward.batches import batches
from micota.forward.nll import completion_measures
from micota.forward.token_ranks import token_ranks
from micota.graph import Prompt
from micota.records import RANK_CLIP, Example
from micota.runtime.forward import CPU_TOKENS
from micota.sft.packing import Tokens, tokenise
from micota.tiny.task import parse_problem, write_long, write_short


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:student", help="bundled:NAME, a folder, or random")
    parser.add_argument("--write", choices=("long", "short"), default="long", help="solutions of the toy setting")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=CPU_TOKENS, help="in a batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, sequences = random_world(options.texts) if options.model == "random" else tiny_world(options)
    model.eval()
    exact = copy.deepcopy(model).double()
    sides_of: dict[str, tuple[Callable[..., Any], ...]] = {
        "BPC": (nll, naive_nll, lambda _, tokens: naive_nll(exact, tokens)),
        "rank shift": (token_ranks, naive_ranks, sorted_ranks),
    }
    parameters = sum(weight.numel() for weight in model.parameters())
    num_tokens = sum(len(tokens.ids) for tokens in sequences)
    print(f"{options.model}, {parameters:,} parameters; {len(sequences)} texts, {num_tokens:,} tokens with prompts")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} thread(s)\n")
    print("| | here | loop | ratio, median (lowest to highest) | reference | ratio | results |")
    print("|---|---|---|---|---|---|---|")
    for name, (function, *loops) in sides_of.items():
        sides = [lambda function=function: batched(function, model, sequences, options.max_tokens)]  # type: ignore[misc]
        sides += [lambda loop=loop: [loop(model, tokens) for tokens in sequences] for loop in loops]  # type: ignore[misc]
        print(row(name, sides, options.repeats), flush=True)


def nll(model: Any, sequences: list[Tokens]) -> list[float]:
    """The likelihoods; the ranks of the tokens are counted in the same pass."""
    return [measures.nll_nats for measures in completion_measures(model, sequences, RANK_CLIP)]


def tiny_world(options: argparse.Namespace) -> tuple[Any, list[Tokens]]:
    """Solutions of the toy setting: long as the teacher's, or short."""
    folder = model_folder(options.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    rng, prompt = random.Random(0), Prompt(template="{problem}", system=None)
    sequences = []
    for problem in load_problems(SourceConfig(path="bundled:train.jsonl", limit=options.texts)):
        question = parse_problem(problem.problem)
        example = Example(
            problem_id=problem.id,
            messages=messages(problem.problem, prompt),
            completion=write_long(question, rng) if options.write == "long" else write_short(question),
            num_tokens=0,
            source=options.write,
        )
        sequences.append(tokenise(tokenizer, example))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), sequences


def random_world(num_texts: int) -> tuple[Any, list[Tokens]]:
    """A model with a real vocabulary, and texts of 60 to 500 tokens after prompts of 80, all at random."""
    torch.manual_seed(0)
    rng = random.Random(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    lengths = [80 + rng.randint(60, 500) for _ in range(num_texts)]
    ids = [torch.randint(0, config.vocab_size, (length,)).tolist() for length in lengths]
    return AutoModelForCausalLM.from_config(config), [Tokens(ids=row, num_prompt=80) for row in ids]


@torch.inference_mode()
def naive_nll(model: Any, tokens: Tokens) -> float:
    log_probs = torch.log_softmax(model(torch.tensor([tokens.ids])).logits[0], dim=-1)
    targets = torch.tensor(tokens.ids[1:])[:, None]
    return float(-log_probs[:-1].gather(1, targets)[tokens.num_prompt - 1 :].sum())


@torch.inference_mode()
def naive_ranks(model: Any, tokens: Tokens) -> list[int]:
    logits = model(torch.tensor([tokens.ids])).logits[0, :-1]
    results: list[int] = (logits > logits.gather(1, torch.tensor(tokens.ids[1:])[:, None])).sum(1).tolist()
    return results[tokens.num_prompt - 1 :]


@torch.inference_mode()
def sorted_ranks(model: Any, tokens: Tokens) -> list[int]:
    logits = model(torch.tensor([tokens.ids])).logits[0, :-1]
    results = []
    for position in range(tokens.num_prompt - 1, len(logits)):
        order = logits[position].argsort(descending=True)
        results.append(int((order == tokens.ids[position + 1]).nonzero()[0, 0]))
    return results


def batched(measure: Callable[..., list[Any]], model: Any, sequences: list[Tokens], max_tokens: int) -> list[Any]:
    results: dict[int, Any] = {}
    for batch in batches([len(tokens.ids) for tokens in sequences], max_tokens):
        results |= zip(batch, measure(model, [sequences[index] for index in batch]), strict=True)
    return [results[index] for index in range(len(sequences))]


def row(name: str, sides: list[Callable[[], list[Any]]], repeats: int) -> str:
    """micota, the loop and the reference, as a row of the table."""
    results = [side() for side in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, times in zip(sides, seconds, strict=True):
            start = time.process_time()
            side()
            times.append(time.process_time() - start)
    cells = [f"{statistics.median(seconds[0]):.2f} s"]
    for times in seconds[1:]:
        ratios = sorted(slow / fast for fast, slow in zip(seconds[0], times, strict=True))
        cells += [f"{statistics.median(times):.2f} s"]
        cells += [f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
    return f"| {name} | {' | '.join(cells)} | {agreement(*results[:2])} |"


def agreement(values: list[Any], naive: list[Any]) -> str:
    if isinstance(values[0], float):
        worst = max(abs(a - b) / b for a, b in zip(values, naive, strict=True))
        return f"equal within {worst:.0e}"
    pairs = [(a, b) for x, y in zip(values, naive, strict=True) for a, b in zip(x, y, strict=True)]
    return f"{sum(a == b for a, b in pairs):,} of {len(pairs):,} ranks equal"


if __name__ == "__main__":
    main()
