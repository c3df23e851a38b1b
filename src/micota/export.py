"""A trained or merged model -> a Hugging Face folder that transformers and vLLM load as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer

from micota.errors import ExportError

FILE_BYTES = 4 * 2**30  # of weights in one file, and so in memory at a time
INDEX = "model.safetensors.index.json"


def export(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer with chat template, and the right eos into every file that names one."""
    settle(model.config, model.generation_config, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def export_streamed(
    model: Any,
    tokenizer: Any,
    folder: Path,
    weights: Iterable[tuple[str, torch.Tensor]],
    *,
    writes: bool,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Write what :func:`export` does of weights that come one after another, at most ``file_bytes`` of them in memory.

    Args:
        weights: names and whole tensors. Where these come from shards, every rank must call this function.
        writes: whether this rank writes; one must.
    """
    if writes:
        export_settings(_settings(model), model.generation_config, tokenizer, folder)
    names: dict[str, str] = {}
    total = 0
    for number, part in enumerate(_parts(weights, file_bytes), start=1):
        if writes:
            file = f"model-{number:05d}.safetensors"
            save_file(part, folder / file, metadata={"format": "pt"})
            names |= dict.fromkeys(part, file)
            total += sum(weight.numel() * weight.element_size() for weight in part.values())
    if writes:
        index = {"metadata": {"total_size": total}, "weight_map": names}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def rehearse(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write and read back, before training, all that the export will write but most of the weights, and remove it.

    Raises:
        ExportError: something does not come back as it was.
    """
    shutil.rmtree(folder, ignore_errors=True)
    export_settings(_settings(model), model.generation_config, tokenizer, folder)
    name, weight = min(named_weights(model), key=lambda item: item[1].numel())
    weight = torch.ones_like(weight, device="cpu") if weight.is_meta else weight  # as its rows are not read yet
    save_file({name: weight.detach().contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    config, again = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        same = torch.equal(file.get_tensor(name), weight.detach().cpu())
    checks = {
        "the weights": same,
        "the kind of model": config.model_type == model.config.model_type,
        "the eos of config.json": config.eos_token_id == model.generation_config.eos_token_id,
        "the eos of the tokenizer": again.eos_token_id == tokenizer.eos_token_id,
        "the chat template": again.chat_template == tokenizer.chat_template,
        "the vocabulary": len(again) == len(tokenizer),
    }
    wrong = [what for what, right in checks.items() if not right]
    if wrong:
        raise ExportError(
            f"{folder}: {', '.join(wrong)} would not survive the export of this model; nothing was trained"
        )
    shutil.rmtree(folder)


def export_settings(config: Any, generation_config: Any, tokenizer: Any, folder: Path) -> None:
    """Write all that ``export`` does but the weights."""
    settle(config, generation_config, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settle(config: Any, generation_config: Any, tokenizer: Any) -> None:
    """Make every place that names eos and padding name the tokenizer's."""
    eos = [tokenizer.eos_token_id]
    known = generation_config.eos_token_id
    eos += [
        token for token in (known if isinstance(known, list) else [known]) if token is not None and token not in eos
    ]
    generation_config.eos_token_id = eos if len(eos) > 1 else eos[0]
    generation_config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = generation_config.eos_token_id
    config.use_cache = True


def _settings(model: Any) -> Any:
    """The config as ``save_pretrained`` would write it: with the model's class and dtype."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    fields = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": dtype}
    return type(model.config).from_dict(fields)


def named_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight once, under the name by which transformers saves it: tied ones go by their first name."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    seen: set[int] = set()
    persistent = model.state_dict().keys()
    for name, weight in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):
        if name in persistent and name not in tied and id(weight) not in seen:
            seen.add(id(weight))
            yield name, weight


def _parts(weights: Iterable[tuple[str, torch.Tensor]], limit: int) -> Iterator[dict[str, torch.Tensor]]:
    """Weights on CPU, in parts of at most ``limit`` bytes (or of one weight)."""
    part: dict[str, torch.Tensor] = {}
    size = 0
    for name, values in weights:
        weight = values.detach().cpu().contiguous()
        count = weight.numel() * weight.element_size()
        if part and size + count > limit:
            yield part
            part, size = {}, 0
        part[name] = weight
        size += count
    yield part
