"""Pre-trains the bundled models: `python -m micota.tiny.pretrain [teacher ta student student2]`.

Matrices are trained with Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), everything
else with AdamW. Muon matters at this size: in a prototype a student reached 57 % with it and 13 % with
AdamW alone, in equal time. The loss is on the solution only; samples are always fresh and avoid the
development and test chains.

A run is reproducible on the same kind of machine with the same versions; elsewhere floating-point differences
add up, which is why the models are bundled.
"""

import math
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from micota.tiny.problems import excluded_chains, load_split
from micota.tiny.recipes import HEAD_DIM, RECIPES, Corpus, Recipe, Stage
from micota.tiny.task import LEVELS, Chain, sample_habits, sample_question, write_solution
from micota.tiny.tokenizer import EOS_ID, MAX_LENGTH, PAD_ID, build_tokenizer

hf: Any = transformers  # its constructors and `generate` do not pass a strict type checker

FOLDER = Path(str(files("micota.tiny"))) / "models"
LOG = "pretrain.log"

BATCH_SIZE = 32
MAX_STEPS_OF_CHAIN = 8
NUM_WARMUP_STEPS = 60
FINAL_LR_RATIO = 0.05
CLIP_NORM = 1.0
NUM_EMBEDDINGS = 64
"""The 58 tokens, padded."""
MAX_NEW_TOKENS = 300
IGNORE = -100


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """A freshly initialised model in float32."""
    config = hf.LlamaConfig(
        vocab_size=NUM_EMBEDDINGS,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        dtype="float32",
    )
    model: LlamaForCausalLM = hf.LlamaForCausalLM(config)
    torch.manual_seed(recipe.seed)
    for name, parameter in model.named_parameters():
        initialise(name, parameter)
    model.generation_config = hf.GenerationConfig(eos_token_id=EOS_ID, pad_token_id=PAD_ID)
    return model


def initialise(name: str, parameter: nn.Parameter) -> None:
    """Normal matrices of std fan_in^-0.5, half where they write to the residual stream; biases 0, norms 1."""
    if "embed_tokens" in name:
        nn.init.normal_(parameter, std=0.02)
    elif parameter.ndim == 2:
        writes_residual = "o_proj" in name or "down_proj" in name
        nn.init.normal_(parameter, std=(0.5 if writes_residual else 1.0) * parameter.shape[1] ** -0.5)
    elif name.endswith("bias"):
        nn.init.zeros_(parameter)
    else:
        nn.init.ones_(parameter)


def sample_pair(rng: random.Random, corpus: Corpus, excluded: set[Chain], eos: str) -> tuple[str, str]:
    """Prompt and response, as the chat template renders them; the response ends with ``eos``."""
    weights = [weight for weight, _ in corpus]
    mix = rng.choices([mix for _, mix in corpus], weights)[0]
    while True:
        question = sample_question(rng, rng.randint(1, MAX_STEPS_OF_CHAIN))
        if question.chain not in excluded:
            break
    habits = sample_habits(rng, mix, len(question.chain.ops))
    return question.problem + "\n", write_solution(question, habits) + eos


def batches(
    tokenizer: PreTrainedTokenizerFast, corpus: Corpus, rng: random.Random, excluded: set[Chain]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless pairs of token ids and labels, both (batch, tokens) and padded on the right."""
    while True:
        pairs = [sample_pair(rng, corpus, excluded, tokenizer.eos_token) for _ in range(BATCH_SIZE)]
        prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
        responses = tokenizer([response for _, response in pairs])["input_ids"]
        length = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
        ids = torch.full((BATCH_SIZE, length), tokenizer.pad_token_id)
        labels = torch.full((BATCH_SIZE, length), IGNORE)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            end = len(prompt) + len(response)
            ids[row, :end] = torch.tensor(prompt + response)
            labels[row, len(prompt) : end] = torch.tensor(response)
        yield ids, labels


def build_optimisers(model: nn.Module, stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers; AdamW for the embedding, biases and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed_tokens" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed_tokens" in name]
    return [
        torch.optim.Muon(matrices, lr=stage.muon_lr, weight_decay=0.0, momentum=0.95, nesterov=True, ns_steps=5),
        torch.optim.AdamW(rest, lr=stage.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def lr_ratio(step: int, num_steps: int) -> float:
    """Linear warm-up, then linear decay to 5 % of the rate at the last step."""
    if step < NUM_WARMUP_STEPS:
        return (step + 1) / NUM_WARMUP_STEPS
    progress = (step - NUM_WARMUP_STEPS) / max(1, num_steps - NUM_WARMUP_STEPS - 1)
    return 1.0 - (1.0 - FINAL_LR_RATIO) * min(1.0, progress)


def train_stage(
    model: Any,
    stage: Stage,
    data: Iterator[tuple[Tensor, Tensor]],
    ratio: Callable[[int, int], float] = lr_ratio,
    log_every: int = 100,
) -> Iterator[str]:
    """Train for one stage, yielding lines for the log: the mean loss (nats a token) since the last line."""
    optimisers = build_optimisers(model, stage)
    schedules = [LambdaLR(optimiser, lambda step: ratio(step, stage.num_steps)) for optimiser in optimisers]
    losses: list[float] = []
    model.train()
    for step in range(1, stage.num_steps + 1):
        ids, labels = next(data)
        # Padding is on the right, where causal attention never looks: no mask is needed.
        logits = model(input_ids=ids, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        losses.append(loss.item())
        if step % log_every == 0 or step == stage.num_steps:
            yield f"step {step}/{stage.num_steps} loss {math.fsum(losses) / len(losses):.4f}"
            losses.clear()


@torch.no_grad()
def evaluate_level(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[dict[str, str]],
    batch_size: int = 100,
) -> tuple[float, float]:
    """Greedy accuracy (0 to 1) and mean length (tokens, with `<eos>`) on the rows."""
    model.eval()
    num_correct = num_tokens = 0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        inputs = tokenizer([row["problem"] + "\n" for row in batch], padding=True, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        completions = output[:, inputs["input_ids"].shape[1] :]
        num_tokens += int((completions != tokenizer.pad_token_id).sum())
        for row, text in zip(batch, tokenizer.batch_decode(completions), strict=True):
            num_correct += rf"\boxed{{{row['answer']}}}{tokenizer.eos_token}" in text
    return num_correct / len(rows), num_tokens / len(rows)


def evaluate(folder: Path) -> Iterator[str]:
    """Lines for the log: accuracy and length on the development problems, by level and on average.

    The folder is loaded from disk, so that a damaged tokenizer or config fails here.
    """
    model = hf.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    results = {level: evaluate_level(model, tokenizer, load_split(f"dev_{level}")) for level in LEVELS}
    results["average"] = (
        sum(accuracy for accuracy, _ in results.values()) / len(results),
        sum(num_tokens for _, num_tokens in results.values()) / len(results),
    )
    for level, (accuracy, num_tokens) in results.items():
        yield f"dev {level}: accuracy {100 * accuracy:.1f} %, {num_tokens:.1f} tokens"


def pretrain(name: str) -> Iterator[str]:
    """Pre-train the model `name`, save it as a Hugging Face folder, and yield the lines of its log."""
    recipe = RECIPES[name]
    started = time.perf_counter()
    torch.set_num_threads(1)
    yield (
        f"seed {recipe.seed}, python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    tokenizer = build_tokenizer()
    model = build_model(recipe)
    yield f"{sum(p.numel() for p in model.parameters())} parameters"
    rng = random.Random(f"{name}-{recipe.seed}")
    excluded = excluded_chains()
    for number, stage in enumerate(recipe.stages, start=1):
        for line in train_stage(model, stage, batches(tokenizer, stage.corpus, rng, excluded)):
            yield f"stage {number} {line}"
    train_s = time.perf_counter() - started
    model.save_pretrained(FOLDER / name)
    tokenizer.save_pretrained(FOLDER / name)
    yield from evaluate(FOLDER / name)
    yield f"{train_s:.0f} s of training with 1 thread"


def write_log(name: str, lines: list[str]) -> None:
    """Replace the section of one model in the log and keep the others, in the order of the recipes."""
    path = FOLDER / LOG
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(re.findall(r"^== (\w+)\n((?:(?!== ).*\n)*)", text, flags=re.MULTILINE))
    sections[name] = "".join(f"{line}\n" for line in lines)
    path.write_text("".join(f"== {n}\n{sections[n]}" for n in RECIPES if n in sections), encoding="utf-8")


def main(names: list[str]) -> None:
    """Pre-train the named models, or all of them, one after another."""
    unknown = set(names) - set(RECIPES)
    if unknown:
        raise SystemExit(f"unknown models {sorted(unknown)}; choose from {list(RECIPES)}")
    for name in names or list(RECIPES):
        lines = []
        for line in pretrain(name):
            print(f"{name}: {line}", flush=True)
            lines.append(line)
        write_log(name, lines)


if __name__ == "__main__":
    main(sys.argv[1:])
