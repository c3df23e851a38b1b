"""Merges by mergekit: the models that a configuration of mergekit names, and what of it is accepted. mergekit itself is
imported where a merge is checked or run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

MERGEKIT = "mergekit"  # the value of merge.method
BEFORE, AFTER, PRETRAINED = NAMES = ("before", "after", "pretrained")
MODEL_KEYS = ("model", "base_model")  # wherever they stand, their value is a model
NAMED = f"accepted: {', '.join(NAMES)}, a folder, a hub id (ID@REVISION), bundled:NAME or {{model: {{path: PATH}}}}"
REFUSED = {
    "tokenizer": "the merge keeps the tokenizer of one model; use tokenizer_source to name that model",
    "chat_template": "the merge keeps the template of the model whose tokenizer it keeps; "
    "use merge.tuned.chat_template=FILE",
}

Reference = tuple[str, str | None]  # a name or path, and a revision


def with_models(config: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a configuration in which ``change`` replaced every model."""
    if isinstance(config, Mapping):
        return {
            key: change(value) if key in MODEL_KEYS and value is not None
            else value if key == "parameters" else with_models(value, change)
            for key, value in config.items()
        }  # fmt: skip
    return [with_models(item, change) for item in config] if isinstance(config, list) else config


def reference(value: Any) -> Reference:
    """The name or path of a model of a configuration, and its revision.

    Raises:
        ValueError: it is in no form that is accepted; the text has no key.
    """
    if isinstance(value, Mapping):
        if set(value) == {"model"}:
            return reference(value["model"])
        if "path" in value and set(value) <= {"path", "revision"} and isinstance(value["path"], str):
            return value["path"], value.get("revision")
    elif isinstance(value, str) and value.strip():
        if value.startswith((".", "/", "~", "bundled:")):  # a folder may have + and @ in its name
            return value, None
        path, _, revision = value.partition("@")
        if "+" not in path and "@" not in revision:
            return path, revision or None
        raise ValueError(f"{value!r}; a LoRA adapter is named by its folder alone, which names its model; {NAMED}")
    raise ValueError(f"{value!r}; {NAMED}")


def names_none(config: Mapping[str, Any]) -> bool:
    """Whether a configuration leaves open what is merged."""
    return not any(config.get(key) for key in ("models", "slices", "modules"))


def models_in(config: Mapping[str, Any], has_pretrained: bool) -> list[Reference]:
    """The models that a configuration names, each once; those that are known if it names none."""
    found: list[Reference] = []

    def note(value: Any) -> Any:
        found.append(reference(value))
        return value

    with_models(config, note)
    if names_none(config):
        found += [(name, None) for name in NAMES[: 3 if has_pretrained else 2]]
    return list(dict.fromkeys(found))


def kept(config: Mapping[str, Any], named: list[Reference]) -> Reference:
    """The one of the models ``named`` whose tokenizer, template and generation config the merge keeps: that of
    ``tokenizer_source``, else the TA after SFT, else the base model, else the first."""
    source = config.get("tokenizer_source")
    if source == "base" or (source is None and (AFTER, None) not in named):
        return reference(config["base_model"]) if config.get("base_model") else named[0]
    return (AFTER, None) if source is None else reference(source)


def faults(config: Mapping[str, Any], has_pretrained: bool) -> Iterator[str]:
    """The faults of a configuration that can be seen without mergekit; each begins with its key."""
    if not config.get("merge_method"):
        yield "config.merge_method is missing; accepted: a method of mergekit, as linear"
    for key, why in REFUSED.items():
        if config.get(key) is not None:
            yield f"config.{key}={config[key]!r}; {why}"
    if config.get("tokenizer_source") == "union":
        yield (
            "config.tokenizer_source=union cuts the rows that pad the embeddings; accepted: one of the models. Rows of "
            "tokens that differ are taken from it"
        )
        return
    try:
        named = models_in(config, has_pretrained)
        if not names_none(config) and not named:
            raise ValueError(f"in no place that it reads; accepted: models: [{{model: {BEFORE}}}, {{model: {AFTER}}}]")
        keeps = kept(config, named)
    except ValueError as error:
        yield f"config names the model {error}"
        return
    if keeps not in named:
        yield f"config.tokenizer_source={keeps[0]!r} is none of the models; accepted: {', '.join(n for n, _ in named)}"
    if (PRETRAINED, None) in named and not has_pretrained:
        yield (
            "config names pretrained, and there is none; accepted: model@merge.base=OPTION or merge.base.path=PATH, "
            "with merge.tuned.path=null or merge.instruct.path=PATH"
        )
