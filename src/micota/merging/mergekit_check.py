"""What is wrong with a configuration of mergekit, before its models exist: mergekit finds most of it while it merges,
and ignores keys and parameters that it does not know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

WRITTEN = ("bfloat16", "float16", "float32")
TRIAL = (8, 8)  # the shape of the tensors on which a method is tried


def check_keys(config: Mapping[str, Any]) -> None:
    """Refuse keys that no part of a configuration has; mergekit would ignore them.

    Raises:
        ValueError: the text names the key, where it stands, and those that are accepted.
    """
    from mergekit.config import MergeConfiguration

    _check_keys(config, MergeConfiguration, "")


def _check_keys(config: Mapping[str, Any], form: Any, at: str) -> None:
    from mergekit.config import (
        InputModelDefinition,
        InputSliceDefinition,
        OutputModuleDefinition,
        OutputSliceDefinition,
    )

    forms: dict[str, Any] = {
        "models": InputModelDefinition, "slices": OutputSliceDefinition, "sources": InputSliceDefinition,
        "modules": OutputModuleDefinition,
    }  # fmt: skip
    if unknown := set(config) - set(form.model_fields):
        raise ValueError(f"no key {at}{min(unknown)}; accepted: {', '.join(form.model_fields)}")
    for key, part in config.items():
        if key not in forms or part is None:
            continue
        for position, item in part.items() if isinstance(part, Mapping) else enumerate(part):
            _check_keys(item, forms[key], f"{at}{key}.{position}.")


def check_parameters(config: Any, method: Any, others: Sequence[Any]) -> None:
    """Refuse parameters that no method has, values of another type, and inputs that lack what the method needs.

    Args:
        config: a ``MergeConfiguration`` whose models are placeholders.
        method: the method of mergekit.
        others: all its methods. A parameter of another method has no effect, as in mergekit.

    Raises:
        ValueError, RuntimeError: by this function or by mergekit; the text names the parameter.
    """
    known = {parameter.name for one in others for parameter in one.spec.parameters}
    own = {parameter.name: parameter for parameter in method.spec.parameters}
    for name, setting in _settings(config):
        if name not in known:
            raise ValueError(f"no parameter {name}; accepted: {', '.join(own) or 'none'}")
        for value in _scalars(setting) if name in own else ():
            _check_value(own[name], value)
    filters = {item.filter for _, setting in _settings(config) for item in _conditions(setting) if item.filter}
    for sources, reader in _groups(config):
        base = reader.base_model
        method.validate_inputs(sources, base, group_name="merge.config")
        # A name that no filter fits shows what is left for other tensors.
        for name in ("", *sorted(filters)):
            for depth in (0.0, 1.0):
                _try(method, sources, reader, name, depth)


def check_types(config: Any) -> None:
    """Refuse a type that cannot be read or written.

    Raises:
        ValueError, RuntimeError: the text names the type.
    """
    from mergekit.common import dtype_from_name

    for name in (config.dtype, config.out_dtype):
        dtype_from_name(name)
    written = config.out_dtype or config.dtype
    if written is not None and written.removeprefix("torch.") not in WRITTEN:
        key = "out_dtype" if config.out_dtype else "dtype"
        raise ValueError(f"{key}={written}; accepted for the merged weights: {', '.join(WRITTEN)}")


def check_layers(config: Any, num_layers: int, has_layer_types: bool) -> None:
    """Refuse ranges of layers that the models do not have, and numbers of layers that mergekit cannot write.

    Args:
        config: a ``MergeConfiguration``.
        num_layers: of each model.
        has_layer_types: whether config.json lists a type for each layer, as of Qwen2.

    Raises:
        ValueError: the text has the range.
    """
    stacks = [config.slices or [], *(module.slices or [] for module in (config.modules or {}).values())]
    for stack in filter(None, stacks):
        ranges = [tuple(source.layer_range) for part in stack for source in part.sources]
        for start, stop in ranges:
            if not 0 <= start < stop <= num_layers:
                raise ValueError(f"layer_range={[start, stop]}; accepted: [FIRST, END] within [0, {num_layers}]")
        lengths = [{source.layer_range[1] - source.layer_range[0] for source in part.sources} for part in stack]
        if any(len(each) > 1 for each in lengths):
            raise ValueError("all inputs of a slice need the same number of layers")
        if has_layer_types and (total := sum(map(min, lengths))) != num_layers:
            raise ValueError(f"{num_layers} layers become {total}, and layer_types lists {num_layers}")


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """All parameters of a configuration, wherever they stand, with their settings."""
    yield from (config.parameters or {}).items()
    for model in config.models or []:
        yield from (model.parameters or {}).items()
    for part in config.slices or []:
        yield from (part.parameters or {}).items()
        for source in part.sources:
            yield from (source.parameters or {}).items()
    for module in (getattr(config, "modules", None) or {}).values():
        yield from _settings(module)


def _conditions(setting: Any) -> list[Any]:
    items = setting if isinstance(setting, list) else [setting]
    return [item for item in items if hasattr(item, "filter")]


def _scalars(setting: Any) -> Iterator[Any]:
    if isinstance(setting, list):
        for item in setting:
            yield from _scalars(item)
    else:
        yield from _scalars(setting.value) if hasattr(setting, "value") else (setting,)


def _check_value(parameter: Any, value: Any) -> None:
    kind = getattr(parameter.value_type, "__name__", str(parameter.value_type))
    try:
        known = parameter.validate(value)
    except ValueError:  # of pydantic
        raise ValueError(f"{parameter.name}={value!r}; accepted: {kind}") from None
    if isinstance(known, float) and not math.isfinite(known):
        raise ValueError(f"{parameter.name}={value!r}; accepted: a finite number")


def _groups(config: Any) -> Iterator[tuple[list[Any], Any]]:
    """The inputs of each slice, and the reader of their parameters, as mergekit's planner takes them."""
    from mergekit.config import ConfigReader, InputSliceDefinition, OutputSliceDefinition

    parts = [(config, None), *((module, module) for module in (config.modules or {}).values())]
    for part, module in parts:
        slices = list(part.slices or [])
        if part.models:
            named = [(one.model, one.parameters) for one in part.models]
            if config.base_model is not None and config.base_model not in [model for model, _ in named]:
                named.append((config.base_model, None))
            inputs = [InputSliceDefinition(model=one, layer_range=(0, 1), parameters=given) for one, given in named]
            slices = [OutputSliceDefinition(sources=inputs)]
        for one in slices:
            reader = ConfigReader(config=config, slice_out=one, t=0, module=module)
            yield [source.model for source in one.sources], reader


def _try(method: Any, sources: list[Any], reader: Any, name: str, depth: float) -> None:
    """Merge random tensors: a method checks some values only then.

    Raises:
        ValueError: the result is not finite.
    """
    from mergekit.merge_methods.base import TensorGroup
    from mergekit.parameter_resolver import resolve_parameters

    shared, by_input = resolve_parameters(
        method.spec, tensor_name=name, inputs=dict.fromkeys(sources, name), sources=reader.parameter_sources,
        base_model=reader.base_model, t=depth,
    )  # fmt: skip
    grouped = {
        parameter.name: {model: given[parameter.name] for model, given in by_input.items() if parameter.name in given}
        for parameter in method.spec.input_parameters
    }
    base = sources.index(reader.base_model) if reader.base_model in sources else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        group = TensorGroup.from_tensors([torch.randn(TRIAL) for _ in sources], ids=sources, base_index=base)
        (merged,) = method([group], parameters=shared | grouped)
    if not bool(merged.isfinite().all()):
        raise ValueError(f"its parameters make values that are not finite: {shared | _worded(grouped)}")


def _worded(grouped: Mapping[str, Mapping[Any, Any]]) -> dict[str, list[Any]]:
    return {name: list(values.values()) for name, values in grouped.items()}
