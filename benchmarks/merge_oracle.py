"""Merges of many architectures, and of adapters, against formulas in float64.

    python benchmarks/merge_oracle.py [families=qwen2,llama] [page=docs/benchmarks.md]

Each family is a random model of two narrow layers and one or two moved from it at random, saved as transformers saves
them. Every method of the table merges them to disk, with all checks (the model is loaded, and answers), and each tensor
is compared with numpy in float64 by the papers' formulas. Random masks are drawn by the package; which elements are
ranked first is decided on differences in float32, as in a merge. Adapters are made by peft.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_adapters import random_adapter
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from micota.config import MERGE_METHODS
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.export import export
from micota.graph import MergeSpec
from micota.merging.masks import mask_key, uniforms
from micota.merging.merge import merge_models

BEGIN, END = "<!-- table: benchmarks/merge_oracle.py -->", "<!-- end of table -->"
ASK = [{"role": "user", "content": "3 + 4"}]
WEIGHTS, DENSITIES = (0.6, 0.3), (0.5, 0.7)
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128, "bos_token_id": None,
    "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {}, "qwen2 tied": {"tie_word_embeddings": True}, "qwen3": {}, "llama": {}, "mistral": {}, "gemma": {},
    "gemma2": {"sliding_window": 8}, "gemma3_text": WINDOW, "phi": {"head_dim": None}, "phi3": {"head_dim": None},
    "olmo2": {}, "granite": {}, "cohere": {}, "starcoder2": {}, "stablelm": {}, "gpt_neox": {}, "smollm3": {},
    "glm4": {}, "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 128},
    "mixtral": {"num_local_experts": 4}, "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 16},
    "qwen3_moe": MOE, "qwen3_next": MOE | LINEAR | {"shared_expert_intermediate_size": 16}, "qwen3_5_text": LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"], "full_attn_idxs": [1]},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
}  # fmt: skip
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA": {}, "rsLoRA": {"use_rslora": True}, "LoRA of the head": {"target_modules": ["q_proj", "lm_head"]},
    "ranks and alphas by pattern": {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 2},
                                    "alpha_pattern": {"up_proj": 3}},
    "biases": {"bias": "all"}, "whole modules": {"modules_to_save": ["lm_head"]},
    "DoRA": {"use_dora": True}, "PiSSA": {"init_lora_weights": "pissa"}, "OLoRA": {"init_lora_weights": "olora"},
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The largest distance of a value from the formula, as a share of the largest value of its tensor; or, without
    one, why the merge is refused."""

    name: str
    num_tensors: int
    error: float
    refusal: str = ""


def spec(method: str, two: bool) -> MergeSpec:
    settings: dict[str, Any] = dict(MERGE_METHODS[method].settings)
    values = {"rescale": "none", "epsilon": 0.0, "gamma": 0.0, **settings}
    values |= {"density": DENSITIES[0], "weight": WEIGHTS[0]}
    values |= {"instruct_density": DENSITIES[1] if two else None, "instruct_weight": WEIGHTS[1] if two else None}
    return MergeSpec(method=method, normalize=False, dtype="float32", seed=0, **values)


def pruned(recipe: MergeSpec, name: str, model: int, delta: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A task vector in float64, pruned and rescaled."""
    density, count, flat = DENSITIES[model], delta.size, delta.flatten()
    magnitudes = np.abs(flat.astype(np.float32))
    order = np.argsort(magnitudes, kind="stable")
    kept = np.ones(count)
    pruning = MERGE_METHODS[recipe.method].pruning
    if pruning in ("random", "ranks"):
        draws = uniforms(mask_key(recipe.seed, model, name), 0, count).double().numpy()
        chances: Any = density
        if pruning == "ranks":
            rows = magnitudes.reshape(-1, delta.shape[-1] if delta.ndim else 1)
            ranks = rows.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            steps = ranks.astype(np.float32) / np.float32(max(1, rows.shape[1] - 1))
            # In float32, as the draws are compared with it.
            chances = np.float32(density - recipe.epsilon) + steps * np.float32(2) * np.float32(recipe.epsilon)
            chances = chances.flatten().astype(np.float64)
        kept = (draws < chances) / chances
    elif pruning in ("magnitude", "outliers"):
        keep = max(1, int(density * count)) if pruning == "magnitude" else int(density * count)
        top = int(recipe.gamma * count) if pruning == "outliers" else 0
        first = max(0, count - keep - top)
        kept = np.zeros(count)
        kept[order[first : first + keep]] = 1.0
    return (flat * kept).reshape(delta.shape)


def oracle(recipe: MergeSpec, name: str, base: np.ndarray[Any, Any], tuned: Sequence[np.ndarray[Any, Any]]) -> Any:
    """The merged tensor in float64."""
    weights, method = WEIGHTS[: len(tuned)], MERGE_METHODS[recipe.method]
    deltas = [values - base for values in tuned]
    if recipe.method == "linear":
        return (1 - sum(weights)) * base + sum(w * values for w, values in zip(weights, tuned, strict=True))
    if recipe.method == "slerp":
        one, other = base.flatten(), tuned[0].flatten()
        lengths = [np.linalg.norm(x) if np.linalg.norm(x) ** 2 > 1e-16 else 1.0 for x in (one, other)]
        cosine = float(np.clip(one @ other / (lengths[0] * lengths[1]), -1, 1))
        if abs(cosine) > 0.9995:
            return (1 - weights[0]) * base + weights[0] * tuned[0]
        angle = math.acos(cosine)
        shares = [math.sin(part * angle) / math.sin(angle) for part in (1 - weights[0], weights[0])]
        return shares[0] * base + shares[1] * tuned[0]
    if recipe.method == "sce":
        return base + selected(deltas)
    vectors = [w * pruned(recipe, name, i, d) for i, (w, d) in enumerate(zip(weights, deltas, strict=True))]
    if method.elects_signs and len(vectors) > 1:
        elected = np.where(sum(vectors) >= 0, 1, -1)
        vectors = [np.where(np.sign(vector) == elected, vector, 0) for vector in vectors]
    return base + sum(vectors)


def selected(deltas: Sequence[np.ndarray[Any, Any]]) -> Any:
    """SCE (arXiv 2408.07990): select by variance, weight by squares, erase the sign that is not elected."""
    stacked = np.stack([delta.flatten() for delta in deltas])
    variance = torch.from_numpy(stacked.astype(np.float32)).var(dim=0, unbiased=False).numpy()
    order = np.argsort(variance, kind="stable")
    kept = np.zeros(stacked.shape[1])
    kept[order[stacked.shape[1] - int(np.count_nonzero(variance) * DENSITIES[0]) :]] = 1.0
    stacked = stacked * kept
    squares = np.square(stacked).sum(axis=1)
    shares = squares / squares.sum() if squares.sum() > 0 else np.full(len(deltas), 1 / len(deltas))
    agree = np.sign(stacked) == np.where(stacked.sum(axis=0) >= 0, 1, -1)
    divisor = (shares[:, None] * agree).sum(axis=0)
    mixed = (stacked * shares[:, None] * agree).sum(axis=0) / np.where(divisor > 0, divisor, 1.0)
    return mixed.reshape(deltas[0].shape)


def read(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a folder, in float64."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: values.double().numpy() for file in files for name, values in load_file(file).items()}


def models(family: str, folder: Path) -> list[Path]:
    """A model, and two moved from it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder("bundled:ta"))
    sizes = {name: value for name, value in (SIZES | FAMILIES[family]).items() if value is not None}
    kind, _, tied = family.partition(" ")
    config = AutoConfig.for_model(kind, vocab_size=300, **{"tie_word_embeddings": bool(tied)} | sizes)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    start = {name: values.clone() for name, values in model.named_parameters()}
    made = []
    for number in range(3):
        with torch.no_grad():
            for name, values in model.named_parameters():
                values.copy_(start[name] + (0.02 * torch.randn_like(values) if number else 0))
        export(model, tokenizer, folder / f"{number}")
        made.append(folder / f"{number}")
    return made


def compared(name: str, recipe: MergeSpec, folders: list[Path], tuned: Sequence[Any], target: Path) -> Found:
    """One merge by the package against the formulas; ``tuned`` are the tensors of the fine-tuned models."""
    target.mkdir(parents=True)
    try:
        merge_models(recipe, (str(folders[0]), None), [(str(path), None) for path in folders[1:]], target, ASK)
    except ConfigError as error:
        return Found(name, 0, math.nan, str(error))
    base, merged = read(folders[0]), read(target)
    errors = []
    for tensor, values in merged.items():
        expected = oracle(recipe, tensor, base[tensor], [each[tensor] for each in tuned])
        errors.append(float(np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-30)))
    return Found(name, len(merged), max(errors))


def family_rows(family: str, folder: Path) -> Found:
    """All methods of one family: the worst of them."""
    found = models(family, folder)
    rows = []
    for method in MERGE_METHODS:
        two = MERGE_METHODS[method].takes_several or (MERGE_METHODS[method].has_base and method != "linear")
        chosen = found if two else found[:2]
        tuned = [read(path) for path in chosen[1:]]
        rows.append(compared(method, spec(method, two), chosen, tuned, folder / method))
    refused = next((f"{row.name}: {row.refusal}" for row in rows if row.refusal), "")
    return Found(family, rows[0].num_tensors, max(row.error for row in rows), refused)


def adapter_row(kind: str, folder: Path) -> Found:
    """A LoRA adapter of one kind, merged half with its model; by ``W + scale B A`` in float64."""
    base, *_ = models("qwen2", folder)
    random_adapter(base, folder / "adapter", **ADAPTERS[kind])
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    tuned = read(base)
    for name, values in read(folder / "adapter").items():
        plain = name.removeprefix("base_model.model.")
        plain = plain.replace(".base_layer.bias", ".bias")
        module, _, part = plain.partition(".lora_")
        if part == "A.weight":
            up = read(folder / "adapter")[name.replace("lora_A", "lora_B")]
            leaf = module.rpartition(".")[2]
            rank = settings["rank_pattern"].get(leaf, settings["r"])
            alpha = settings["alpha_pattern"].get(leaf, settings["lora_alpha"])
            scale = alpha / (math.sqrt(rank) if settings["use_rslora"] else rank)
            tuned[f"{module}.weight"] = tuned[f"{module}.weight"] + scale * up @ values
        elif not part and "base_layer" not in plain and plain in tuned:
            tuned[plain] = values
    return compared(kind, spec("linear", False), [base, folder / "adapter"], [tuned], folder / "merged")


def table(rows: Sequence[Found], first: str) -> str:
    lines = [f"| {first} | tensors | largest error |", "| --- | --- | --- |"]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.num_tensors or '-'} | {f'{row.error:.1e}' if not row.refusal else 'refused'} |"
        )
    return "\n".join(lines)


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable_progress_bar()
    chosen = given["families"].split(",") if "families" in given else list(FAMILIES)
    with tempfile.TemporaryDirectory() as folder:
        families = [family_rows(name, Path(folder) / name.replace(" ", "-")) for name in chosen]
        adapters = [adapter_row(name, Path(folder) / name.replace(" ", "-")) for name in ADAPTERS]
    for row in (*families, *adapters):
        if row.refusal:
            print(f"{row.name}: {row.refusal}", file=sys.stderr)
    text = f"{table(families, 'architecture')}\n\n{table(adapters, 'adapter of qwen2')}"
    print(text)
    if "page" in given:
        page = Path(given["page"])
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
