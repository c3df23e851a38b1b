"""The hf engine against ``generate`` of transformers on the same model and prompts, in turn, in one run.

    python benchmarks/hf_engine.py [--model bundled:student] [--prompts 512] [--batch-size 64] [--repeats 5]

Several batches of prompts whose answers are of very unequal length, for ``generate`` in the order in which they come
(with --sorted: by their length, as the hf engine takes them), or for its continuous batching (--against). Greedy
answers of both are compared; times are medians, and the ratio is that of each pair of neighbouring runs, in wall time
and in CPU time of this process.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import transformers
from transformers import ContinuousBatchingConfig, GenerationConfig

from micota.config import EngineConfig, SamplingConfig, SourceConfig
from micota.data.prompts import prompt_text
from micota.data.sources import load_problems, model_folder
from micota.engines.base import Request
from micota.engines.hf import HFEngine
from micota.graph import Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:student")
    parser.add_argument("--against", choices=["generate", "continuous_batching"], default="generate")
    parser.add_argument("--problems", default="bundled:train.jsonl")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=280)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sorted", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = HFEngine(
        EngineConfig(name="hf", batch_size=options.batch_size, dtype="float32"), model_folder(options.model), None
    )
    problems = load_problems(SourceConfig(path=options.problems, limit=options.prompts))
    prompt = Prompt(template="{problem}", system=None)
    texts = [prompt_text(engine.tokenizer, problem.problem, prompt) for problem in problems]
    ids = [engine.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    requests = [Request(id=(p.id, 0), prompt_ids=row, seed=0) for p, row in zip(problems, ids, strict=True)]
    sampling = SamplingConfig(temperature=0.0, max_tokens=options.max_tokens)

    lengths = []

    def with_engine() -> dict[str, str]:
        outputs = list(engine.generate(requests, sampling))
        lengths[:] = sorted(output.num_tokens for output in outputs)
        return {output.id[0]: output.text for output in outputs}

    def with_generate() -> dict[str, str]:
        texts_of = {}
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]) if options.sorted else index)
        for start in range(0, len(order), options.batch_size):
            rows = order[start : start + options.batch_size]
            batch = engine.tokenizer.pad(
                {"input_ids": [ids[row] for row in rows]}, padding_side="left", return_tensors="pt"
            )
            answers = engine.model.generate(**batch, max_new_tokens=options.max_tokens, do_sample=False)
            width = batch["input_ids"].shape[1]
            for row, answer in zip(rows, answers, strict=True):
                texts_of[problems[row].id] = engine.tokenizer.decode(answer[width:], skip_special_tokens=True)
        return texts_of

    def with_continuous_batching() -> dict[str, str]:
        settings = GenerationConfig(
            max_new_tokens=options.max_tokens, do_sample=False, eos_token_id=sorted(engine.eos_ids), pad_token_id=0
        )
        # Without limits it takes all memory of the machine for its masks.
        limits = ContinuousBatchingConfig(page_size=64, num_blocks=8 * options.batch_size, max_batch_tokens=256)
        outputs = engine.model.generate_batch(ids, settings, limits)
        # Requests are named in the order of the prompts.
        rows = sorted(outputs.values(), key=lambda output: int(output.request_id.rpartition("_")[2]))
        return {
            problem.id: engine.tokenizer.decode(row.generated_tokens, skip_special_tokens=True)
            for problem, row in zip(problems, rows, strict=True)
        }

    with_peer = with_continuous_batching if options.against == "continuous_batching" else with_generate
    answers = with_engine()
    same = sum(answers[key] == text for key, text in with_peer().items())
    pairs = []
    for _ in range(options.repeats):
        seconds = []
        for run in (with_engine, with_peer):
            start, cpu = time.perf_counter(), time.process_time()
            run()
            seconds += [time.perf_counter() - start, time.process_time() - cpu]
        pairs.append(seconds)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    elapsed = statistics.median(peer / engine_time for engine_time, _, peer, _ in pairs)
    cpu = statistics.median(peer / engine_time for _, engine_time, _, peer in pairs)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} thread(s)")
    print(f"{options.model}, {len(requests)} prompts: identical answers {same} of {len(requests)}")
    ranks = ", ".join(f"{lengths[round(share * (len(lengths) - 1))]}" for share in (0, 0.1, 0.5, 0.9, 1))
    print(f"tokens of an answer: {ranks} (0, 10, 50, 90, 100 %); batches of {options.batch_size}")
    print(
        f"hf engine {medians[0]:.2f} s (CPU {medians[1]:.2f} s), {options.against} {medians[2]:.2f} s "
        f"(CPU {medians[3]:.2f} s)"
    )
    print(
        f"{options.against} / hf engine: {elapsed:.2f} in wall time, {cpu:.2f} in CPU time "
        f"(medians of {options.repeats} pairs)"
    )


if __name__ == "__main__":
    main()
