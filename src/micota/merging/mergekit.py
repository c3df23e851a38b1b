"""Merges by mergekit's Python API, checked and described as the merges of micota."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from micota.checkpoint import INDEX, WEIGHTS, Checkpoint, CheckpointWriter, Form
from micota.config.mergekit import MERGEKIT, names_none, with_models
from micota.errors import DISK_IS_FULL, ConfigError, is_full_memory
from micota.export import export_settings
from micota.graph import MergekitSpec
from micota.merging.adapter import drop_quantization, generation_config
from micota.merging.merge import size_of, write_settings
from micota.merging.mergekit_check import check_keys, check_layers, check_parameters, check_types
from micota.merging.methods import Tally
from micota.merging.models import Location, Model, check_disk, open_models, tensor_names
from micota.merging.report import write_report
from micota.merging.slices import slices
from micota.merging.verify import Conversation, check_model
from micota.merging.vocabulary import has_rows_of_tokens
from micota.pretrained import load_config
from micota.weight_files import check_files

PLACEHOLDER = "model"  # a path of no model: a configuration is checked before its models exist
KEPT = "tuned"  # the label of the model whose tokenizer the merge keeps
REASON_CHARS = 300


def check_configuration(spec: MergekitSpec, labels: list[str], settings: Any = None) -> None:
    """Refuse what mergekit refuses or ignores of a configuration, before any model is read.

    Args:
        settings: the config of one of the models, by transformers; None if it is not known.

    Raises:
        ConfigError: mergekit is not installed, has no such method, key or parameter, or cannot use a value.
    """
    config = _configuration(spec, labels, {label: Path(f"{PLACEHOLDER}-{label}") for label in labels})
    with _one_line(spec):
        from mergekit.merge_methods import registry

        check_types(config)
        check_parameters(config, registry.get(config.merge_method), registry.registered_methods())
        if settings is not None:
            text = settings.get_text_config()
            check_layers(config, text.num_hidden_layers, bool(getattr(text, "layer_types", None)))


def merge_by_mergekit(
    spec: MergekitSpec,
    locations: Mapping[str, Location],
    folder: Path,
    conversation: Conversation,
    prepare: Callable[[Any], None] = lambda tokenizer: None,
) -> dict[str, float]:
    """Merge models by mergekit and write a checked model with the tokenizer and settings of the input ``tuned``.

    Rows of tokens that differ between the models, or that one of them lacks, are those of ``tuned``, as in the merges
    of micota: mergekit would mix rows of different tokens.

    Args:
        spec: the configuration, which names models by their labels.
        locations: the models by label.
        folder: an existing folder; the model and ``merge.json`` are written into it.
        conversation: the prompt for a sample of the merged model.
        prepare: changes the tokenizer of ``tuned`` before it is written, as its chat template.

    Returns:
        As of ``merge_models``, for the task vector from the first model to ``tuned``.

    Raises:
        ConfigError: mergekit refuses the merge or fails, the models do not fit each other, or a check fails.
        MachineError: the disk is too small.
    """
    labels = _in_order(spec.config, list(locations))
    with open_models([locations[label] for label in labels], folder / "scratch") as models:
        base, tuned = models[:2]
        prepare(tuned.tokenizer)
        names = tensor_names(models)
        for model in models:
            check_files(model.folder, None)  # mergekit would write what it is given
        check_disk(folder, 2 * size_of(base, names, torch.float32))
        folders = {
            label: _as_folder(model, folder / "scratch" / f"aligned-{label}")
            for label, model in zip(labels, models, strict=True)
        }
        made = folder / "scratch" / "merged"
        _run(_configuration(spec, list(locations), folders), spec, made)
        _take(made, tuned, folder)
        sample = check_model(folder, base, tuned, conversation)
        with Checkpoint.open(folder) as merged:
            tallies = {name: tally for name in merged.entries if (tally := _tally(name, base, tuned, merged))}
        if name := next((name for name, tally in tallies.items() if not math.isfinite(tally.merged_squares)), None):
            raise ConfigError(f"mergekit made values of {name} that are not finite; change merge.config.parameters")
        return write_report(folder, spec, tallies, sample, mergekit=version(MERGEKIT))


def _in_order(config: Mapping[str, Any], labels: list[str]) -> list[str]:
    """The model that others are compared with, the one whose tokenizer is kept, and the rest."""
    others = [label for label in labels if label != KEPT]
    first = next((label for label in ("before", config.get("base_model"), *others) if label in others), KEPT)
    return [first, KEPT, *(label for label in others if label != first)]


def _configuration(spec: MergekitSpec, labels: list[str], folders: Mapping[str, Path]) -> Any:
    """The configuration for mergekit, with what it leaves open."""
    if find_spec(MERGEKIT) is None:
        raise ConfigError("merge=mergekit needs the package mergekit, which is not installed; install micota[mergekit]")
    with _one_line(spec):
        from mergekit.config import MergeConfiguration
        from mergekit.merge_methods import registry

        check_keys(spec.config)
        known = {method.spec.name: method.spec for method in registry.registered_methods()}
        if str(spec.config["merge_method"]) not in known:
            raise ValueError(f"no method of this name; accepted: {', '.join(known)}")
        config = completed(spec.config, known[spec.config["merge_method"]], labels)
        # As a mapping: mergekit splits a text at + and @, which may be parts of a path.
        placed = with_models(config, lambda label: {"model": {"path": str(folders[label])}})
        return MergeConfiguration.model_validate(placed)


def completed(config: Mapping[str, Any], method: Any, labels: list[str]) -> dict[str, Any]:
    """A configuration that names no models, with the models before and after SFT and what the method needs: half of
    each as weights, t = 0.5, and a base where it must have one: the pre-trained model, else the TA before SFT."""
    if not names_none(config):
        return dict(config)
    from mergekit.merge_methods.base import BasePolicy

    pair = [label if label in labels else KEPT for label in ("before", "after")]
    needed = {
        parameter.name for parameter in (*method.shared_parameters, *method.input_parameters) if parameter.required
    }
    shares = {name: 0.5 for name in ("weight", "t") if name in needed}
    filled = {"models": [{"model": label} for label in pair], **config}
    filled["parameters"] = {**shares, **(config.get("parameters") or {})}
    most = method.contract.max_inputs
    if method.contract.base == BasePolicy.REQUIRED and config.get("base_model") is None:
        has_third = "pretrained" in labels and (most is None or most > len(pair))
        filled["base_model"] = "pretrained" if has_third else pair[0]
    count = len({*pair, filled.get("base_model", pair[0])})
    if count < method.contract.min_inputs:
        raise ValueError(
            f"it needs {method.contract.min_inputs} models and there are {count}; pretrained is a third, as "
            "model@merge.base=OPTION sets it; or name others in merge.config.models"
        )
    if most is not None and most < count:
        raise ValueError(f"it takes {most} model, and there are before and after; name them in merge.config.models")
    return filled


@contextmanager
def _one_line(spec: MergekitSpec) -> Iterator[None]:
    """Calls of mergekit alone, whose errors are of mixed types; memory and disk that are full pass unchanged."""
    try:
        yield
    except Exception as error:  # of mergekit, pydantic, transformers and huggingface_hub, without a common class
        if is_full_memory(error) or (isinstance(error, OSError) and error.errno in DISK_IS_FULL):
            raise
        text = " ".join(str(error).split())
        known = text if text and isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {text}"
        if "layer_types" in text:
            known = f"it changes the number of layers, which fails for models with layer_types in config.json: {known}"
        raise ConfigError(
            f"merge.config: mergekit {version(MERGEKIT)} cannot merge by merge_method={spec.config['merge_method']} "
            f"({known[:REASON_CHARS]}); change merge.config"
        ) from error


def _run(configuration: Any, spec: MergekitSpec, folder: Path) -> None:
    """Run mergekit. Its masks depend on the seed; the random state of this process is restored."""
    with _one_line(spec), torch.random.fork_rng(devices=[]):
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions

        options = MergeOptions(random_seed=spec.seed, copy_tokenizer=False, write_model_card=False, quiet=True)
        run_merge(configuration, str(folder), options=options)


def _as_folder(model: Model, target: Path) -> Path:
    """The folder of a model; where its rows or names were aligned with another model's, a copy that has them. Where it
    has a whole file beside an index, links to its files without the index, which mergekit would read."""
    aligned = model.checkpoint
    is_plain = not aligned.is_changed
    if is_plain and not ((model.folder / WEIGHTS).exists() and (model.folder / INDEX).exists()):
        return model.folder
    target.mkdir(parents=True)
    if is_plain:
        for file in model.folder.iterdir():
            if file.name != INDEX:
                (target / file.name).symlink_to(file.resolve())
        return target
    settings: Any = load_config(model.folder)
    rows = [entry.shape[0] for name, entry in aligned.entries.items() if has_rows_of_tokens(name)]
    settings.get_text_config().vocab_size = rows[0]
    settings.save_pretrained(target)
    forms = {name: Form(entry.shape, entry.dtype) for name, entry in aligned.entries.items()}
    with closing(CheckpointWriter(target, forms)) as writer:
        for name, form in forms.items():
            for start, stop in slices(form.shape):
                writer.write(name, start, aligned.read(name, start, stop).to(form.dtype))
    return target


def _take(made: Path, tuned: Model, folder: Path) -> None:
    """Move the weights of a merge, and write config, generation config and tokenizer of ``tuned``; another number of
    layers is that of the merge."""
    for file in [*made.glob("*.safetensors"), *made.glob(INDEX)]:
        file.rename(folder / file.name)
    with Checkpoint.open(folder) as merged:
        dtypes = Counter(entry.dtype for entry in merged.entries.values())
    dtype = dtypes.most_common(1)[0][0]
    settings: Any = load_config(made)
    if settings.get_text_config().num_hidden_layers == tuned.config.get_text_config().num_hidden_layers:
        write_settings(tuned, dtype, folder)
        return
    settings.dtype = dtype
    drop_quantization(settings)
    source = (str(tuned.folder), None)
    export_settings(settings, generation_config(tuned.folder, settings), tuned.tokenizer, folder, None, source)


def _tally(name: str, base: Model, tuned: Model, merged: Checkpoint) -> Tally | None:
    """The statistics of a tensor that all three models have, else None. Elements count as dropped that tuning changed
    and the merge left as in the base."""
    checkpoints = (base.checkpoint, tuned.checkpoint, merged)
    if len({one.entries[name].shape if name in one.entries else None for one in checkpoints}) > 1:
        return None
    shape = merged.entries[name].shape
    tally = Tally(merged.entries[name].num_elements, [0.0], [0])
    for start, stop in slices(shape):
        before, after, now = (one.read(name, start, stop).float() for one in checkpoints)
        vector, change = after - before, now - before
        tally.task_vector_squares[0] += float(torch.linalg.vector_norm(vector)) ** 2
        tally.merged_squares += float(torch.linalg.vector_norm(change)) ** 2
        tally.dropped[0] += int(((change == 0) & (vector != 0)).sum())
    return tally
