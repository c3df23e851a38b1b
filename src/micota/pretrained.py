"""Loads existing models by transformers. Every failure names the model and the accepted form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from micota.errors import ModelError
from micota.template_trial import BYTES, SECONDS, is_bounded
from micota.weight_files import check_finite

# What transformers, tokenizers and the hub raise for a file that is missing or damaged, each in another way. A
# ``reading`` block may hold only their calls. Otherwise a bug of micota would pass for a damaged model.
FAILURES = (
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ImportError, SafetensorError,
    UnpicklingError, EOFError,
)  # fmt: skip
ACCEPTED = "a folder with config.json, tokenizer and safetensors, or the id of a model on the hub"
REASON_CHARS = 200
CONFIG, ADAPTER = "config.json", "adapter_config.json"
_LAYER = re.compile(r"^(?:model\.|transformer\.)?(?:layers|h)\.(\d+)\.")
logger = getLogger(__name__)


@contextmanager
def reading(path: str | Path, revision: str | None, what: str) -> Iterator[None]:
    """Read ``what`` of the model at ``path``, a folder or hub id.

    Raises:
        ModelError: it is not there, or the libraries cannot read it.
    """
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError, too, and no fault of the model
        raise
    except FAILURES as error:
        at = f" at revision {revision!r}" if revision else ""
        problem = f"its {what} cannot be read ({_reason(error)})"
        if Path(path).is_file():
            problem = "it is a file"
        elif Path(path).is_dir() and not any((Path(path) / name).exists() for name in (CONFIG, ADAPTER)):
            held = ", ".join(sorted(entry.name for entry in Path(path).iterdir())[:5]) or "nothing"
            problem = f"its folder has no {CONFIG} (it has {held})"
        elif not Path(path).is_dir():
            is_local = str(path).startswith((".", "/", "~")) or str(path).count("/") > 1  # ids of the hub have one
            problem = "there is no such folder" + ("" if is_local else f" here, and on the hub {problem}")
        raise ModelError(f"path={str(path)!r}{at}: {problem}; accepted: {ACCEPTED}", str(path)) from error


@contextmanager
def _no_report() -> Iterator[None]:
    """Keep back the table of weights that transformers prints, of which one line is made here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _reason(error: Exception) -> str:
    """The first words of a library's message, which may go on for paragraphs."""
    if isinstance(error, UnpicklingError | EOFError):  # torch's text says how to run the code that is in it
        return "a file of pickles is damaged, or has more in it than weights"
    text = " ".join(str(error).split())
    text = (
        text if isinstance(error, OSError | ValueError | RuntimeError) and text else f"{type(error).__name__}: {text}"
    )
    return text if len(text) <= REASON_CHARS else text[:REASON_CHARS].rsplit(" ", 1)[0] + " ..."


def load_tokenizer(path: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or hub id.

    Raises:
        ModelError: it cannot be read.
    """
    with reading(path, revision, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
        # Without their files, some classes make a tokenizer of special tokens alone.
        if not tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys():
            raise ValueError("it has no words: tokenizer.json, or the files of its class, are missing")
    check_bounded(tokenizer.chat_template, path)
    return tokenizer


def check_bounded(templates: Any, path: str | Path) -> None:
    """Refuse a chat template, or one of several by name, that renders without end or fills the memory.

    Raises:
        ModelError: it does; the text has ``path``, the location of the template.
    """
    for template in templates.values() if isinstance(templates, Mapping) else [templates]:
        if isinstance(template, str) and not is_bounded(template):
            raise ModelError(
                f"path={str(path)!r}: its chat template needs more than {SECONDS} s or {BYTES // 2**20} MiB for a "
                "short chat; accepted: a template without such loops and repetitions",
                str(path),
            )


def load_config(path: str | Path, revision: str | None = None) -> Any:
    """The config of a folder or hub id, as transformers has it.

    Raises:
        ModelError: it cannot be read.
    """
    with reading(path, revision, "config.json"):
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)


def context_of(settings: Any) -> int | None:
    """The longest sequence of a model in tokens, by its config as transformers has it; None without such a limit."""
    longest = getattr(settings.get_text_config(), "max_position_embeddings", None)
    return None if longest is None else int(longest)


def rope_border(settings: Any) -> int | None:
    """The length in tokens above which longrope (arXiv 2402.13753) uses its other factors; None for other models.

    transformers takes the factors of the longest sequence for all of a batch, so that one on the other side of the
    border would get positions that it never has alone.
    """
    rope = getattr(settings.get_text_config(), "rope_parameters", None) or {}
    every = rope.values() if rope and all(isinstance(value, Mapping) for value in rope.values()) else [rope]
    borders = [kind.get("original_max_position_embeddings") for kind in every if kind.get("rope_type") == "longrope"]
    return next((int(border) for border in borders if border is not None), None)


def load_model(path: str | Path, revision: str | None = None, **options: Any) -> Any:
    """The causal LM of a folder or hub id; ``options`` are those of ``from_pretrained``.

    Raises:
        ModelError: it cannot be read, its weights do not fit its config.json, or they hold NaN or infinity.
    """
    with reading(path, revision, "weights"):
        with _no_report():
            model, report = AutoModelForCausalLM.from_pretrained(
                path,
                revision=revision,
                trust_remote_code=False,  # null asks on the terminal whether code of the model may run
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the check below names them
                **options,
            )
        if extra := _layers_more(sorted(report["unexpected_keys"]), model.config.get_text_config()):
            raise ValueError(extra)
        if unused := sorted(report["unexpected_keys"]):
            logger.warning("%s: %d weights are no part of the model, as %s", path, len(unused), unused[0])
        unfit = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
        if unfit:  # transformers fills them with random numbers
            more = f" and {len(unfit) - 1} more" if len(unfit) > 1 else ""
            raise ValueError(f"{unfit[0]}{more} of config.json are missing, or have other sizes in the weights")
    check_finite(path, revision, model.named_parameters())
    return model


def _layers_more(unused: list[str], config: Any) -> str | None:
    """The words for weights of more layers than a config has: the rest of such a model would be another model. Layers
    that predict further tokens, as those of DeepSeek-V3, come after the last one and are none of them."""
    last = config.num_hidden_layers + (getattr(config, "num_nextn_predict_layers", None) or 0)
    numbers = {int(found[1]): name for name in unused if (found := _LAYER.search(name))}
    more = max(numbers, default=-1)
    return (
        f"num_hidden_layers is {config.num_hidden_layers}, and the weights have {numbers[more]}"
        if more >= last
        else None
    )
