"""The vllm engine, with completions appended to a file as they finish, against one bare ``LLM.generate`` on the same
loaded model and prompts, in turn, in one run; and its greedy answers against those of transformers.

    .venv-vllm/bin/python benchmarks/vllm_engine.py [--model bundled:teacher] [--prompts 256] [--repeats 5]

Times are medians, and the ratio is that of each pair of neighbouring runs. Both start with an empty prefix cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers

from micota.artifacts.appending import JsonlAppender
from micota.config import EngineConfig, SamplingConfig, SourceConfig
from micota.data.prompts import prompt_text
from micota.data.sources import load_problems, model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.errors import ConfigError
from micota.graph import Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:teacher")
    parser.add_argument("--problems", default="bundled:train.jsonl")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=280)
    parser.add_argument("--memory-fraction", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    config = EngineConfig(
        name="vllm",
        batch_size=options.batch_size,
        dtype="float32",
        memory_fraction=options.memory_fraction,
        prefix_caching=False,
    )
    folder = model_folder(options.model)
    try:
        engine = open_engine(config, folder, None)
    except ConfigError as error:
        print(f"skipped: {error}")
        return
    import vllm

    problems = load_problems(SourceConfig(path=options.problems, limit=options.prompts))
    prompt = Prompt(template="{problem}", system=None)
    texts = [prompt_text(engine.tokenizer, problem.problem, prompt) for problem in problems]
    ids = [engine.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    requests = [Request(id=(p.id, 0), prompt_ids=row, seed=0) for p, row in zip(problems, ids, strict=True)]
    sampling = SamplingConfig(temperature=0.0, max_tokens=options.max_tokens)

    def with_engine() -> int:
        with tempfile.TemporaryDirectory() as scratch:
            appender = JsonlAppender(Path(scratch) / "completions.jsonl")
            num_tokens = 0
            for output in engine.generate(requests, sampling):
                appender.append([output])
                num_tokens += output.num_tokens
            appender.close()
        return num_tokens

    def bare() -> int:
        params = vllm.SamplingParams(temperature=0.0, max_tokens=options.max_tokens)
        answers = engine._llm.generate([{"prompt_token_ids": row} for row in ids], params, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    with_engine(), bare()
    pairs = []
    for number in range(options.repeats):
        seconds = {}
        for run in (with_engine, bare) if number % 2 == 0 else (bare, with_engine):
            start = time.perf_counter()
            num_tokens = run()
            seconds[run] = time.perf_counter() - start
        pairs.append((seconds[with_engine], seconds[bare]))
    ratio = statistics.median(first / second for first, second in pairs)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    hf = open_engine(EngineConfig(name="hf", batch_size=options.batch_size, dtype="float32"), folder, None)
    expected = {output.id: output.text for output in hf.generate(requests, sampling)}
    same = sum(output.text == expected[output.id] for output in engine.generate(requests, sampling))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, vllm {vllm.__version__}")
    print(f"{torch.get_num_threads()} thread(s)")
    print(f"{options.model}, {len(requests)} prompts, {num_tokens} tokens")
    print(f"vllm engine {medians[0]:.2f} s, LLM.generate {medians[1]:.2f} s")
    print(f"vllm engine / LLM.generate: {ratio:.3f} (median of {options.repeats} pairs)")
    print(f"greedy answers as those of transformers: {same} of {len(requests)}")


if __name__ == "__main__":
    main()
