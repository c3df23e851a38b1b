"""The loss of training against transformers' logits, on a small random model of the same architecture.

The loss calls a model's layers and its output head apart from each other, over packed sequences. An architecture whose
logits depend on more than both (a factor, attention sinks, a state that passes from one packed sequence to the next)
would be trained towards another objective without an error. The comparison finds that before the weights are read.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.utils import logging as of_transformers

from micota.errors import ConfigError
from micota.sft import attention
from micota.sft.losses import Objective
from micota.sft.packing import Tokens, borders, collate

TOLERANCE = 1e-3  # nats a token; float32 gives 1e-6, and a factor on the logits or a left-out sink far more
LENGTHS = (11, 14)  # tokens of the two packed sequences; both are longer than WINDOW
WINDOW, VOCABULARY, HEADS, EXPERTS = 4, 96, 4, 4
logger = logging.getLogger(__name__)


def check(settings: Any, kernel: str) -> None:
    """Refuse a model whose loss differs from that of transformers' logits.

    Args:
        settings: transformers' config of the model.
        kernel: of :func:`micota.sft.attention.choose`.

    Raises:
        ConfigError: the text names the architecture, the difference, and an attention kernel without it, if any.
    """
    problem = compare(settings, kernel).problem
    if problem is None:
        return
    others = [name for name in ("sequences", "eager") if name != kernel]
    right = next((name for name in others if compare(settings, name).problem is None), None)
    accepted = (
        f"accepted: trainer.attention={right}, which agrees"
        if right is not None
        else "it cannot be trained here; accepted: other architectures, as Qwen2, Qwen3, Llama, Gemma, Mistral or Phi-3"
    )
    raise ConfigError(
        f"models of type {settings.model_type!r} with the attention kernel {kernel!r}: {problem}; {accepted}"
    )


@dataclass(frozen=True)
class Comparison:
    """Mean negative log-likelihoods of a test in nats a token: ``expected`` by transformers' logits, None if no small
    model of the architecture can be made (``failure`` has the reason), and ``loss`` by training, None if that fails."""

    expected: float | None = None
    loss: float | None = None
    failure: str = ""

    @property
    def problem(self) -> str | None:
        """What is wrong with the loss; None if it is right, or was not compared."""
        if self.expected is None:
            return None
        if self.loss is None:
            return f"its loss on packed sequences cannot be computed ({self.failure})"
        if abs(self.loss - self.expected) <= TOLERANCE:
            return None
        return (
            f"its loss would be {self.loss:.4f} nats a token on a test, and {self.expected:.4f} by transformers' logits"
        )


def compare(settings: Any, kernel: str) -> Comparison:
    """The loss of training and that of transformers' logits, on a small model of the architecture."""
    try:
        model = small_model(settings)
        expected = plain_nll(model, sequences())
    except Exception as error:  # architectures have sizes that depend on each other in their ways
        reason = _reason(error)
        logger.warning(
            "%s: the loss is not compared with transformers' logits, as a small model fails: %s",
            settings.model_type, reason,
        )  # fmt: skip
        return Comparison(failure=reason)
    try:
        return Comparison(expected, packed_nll(model, sequences(), kernel))
    except Exception as error:  # what it calls is code of the architecture, which fails in any way
        packed_nll(small_model(LlamaConfig()), sequences(), kernel)  # where this fails too, it is a bug, and raised
        return Comparison(expected, failure=_reason(error))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def on_cpu(kernel: str) -> str:
    """A kernel that runs on CPU with the same arguments as ``kernel``."""
    return "sequences" if kernel in attention.BY_SEQUENCE else "eager" if kernel == "flex" else kernel


def sequences() -> list[Tokens]:
    """Two sequences of random ids."""
    generator = torch.Generator().manual_seed(0)
    return [
        Tokens(ids=torch.randint(3, VOCABULARY, (length,), generator=generator).tolist(), num_prompt=3)
        for length in LENGTHS
    ]


@torch.no_grad()
def plain_nll(model: Any, examples: Sequence[Tokens]) -> float:
    """Mean negative log-likelihood of supervised tokens in nats, from ``model(...).logits``, one sequence a call."""
    total = 0.0
    for tokens in examples:
        ids = torch.tensor([tokens.ids])
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        total += float(
            functional.cross_entropy(logits[tokens.num_prompt - 1 : -1], ids[0, tokens.num_prompt :], reduction="sum")
        )
    return total / sum(tokens.num_supervised for tokens in examples)


@torch.no_grad()
def packed_nll(model: Any, examples: Sequence[Tokens], kernel: str) -> float:
    """The same by the loss of training, with the sequences packed into one row."""
    with quiet():
        model.set_attn_implementation(attention.implementation(on_cpu(kernel)))
    batch = collate(examples, sum(len(tokens.ids) for tokens in examples))
    supervised = sum(tokens.num_supervised for tokens in examples)
    return float(Objective(model)(batch, borders(batch["position_ids"]), supervised))


@contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers says about configs."""
    level = of_transformers.get_verbosity()
    of_transformers.set_verbosity_error()
    try:
        yield
    finally:
        of_transformers.set_verbosity(level)


def small_model(settings: Any) -> Any:
    """A random model of an architecture in float32, with eager attention. The random state of torch is as before."""
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(
            small_config(settings), dtype=torch.float32, attn_implementation="eager"
        )
        with torch.no_grad():
            for weight in model.parameters():
                # Logits of about 1, so that a factor on them shows; gains and sinks differ from 1 and 0.
                deviation = weight.shape[-1] ** -0.5 if weight.ndim >= 2 else 0.3
                weight.copy_((0 if weight.ndim >= 2 else weight) + deviation * torch.randn_like(weight))
                if weight is model.get_output_embeddings().weight:
                    weight.mul_(3)
        return model.eval()


def small_config(settings: Any) -> Any:
    """A config with few and narrow layers, one of each kind, that is otherwise ``settings``. The size of a head stays,
    as the factors of rotary embeddings depend on it."""
    config = copy.deepcopy(settings)
    text = config.get_text_config()
    heads, groups = text.num_attention_heads, getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    few = min(heads, HEADS)
    kinds = list(dict.fromkeys(getattr(text, "layer_types", None) or [])) or [None, None]
    kinds = kinds * 2 if len(kinds) == 1 else kinds
    hidden = few * size
    changes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": hidden, "num_attention_heads": few,
        "num_key_value_heads": few if groups == heads else max(1, few * groups // heads),
        "num_hidden_layers": len(kinds), "intermediate_size": 2 * hidden, "moe_intermediate_size": hidden,
        "shared_expert_intermediate_size": hidden, "sliding_window": WINDOW, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2,
    }  # fmt: skip
    if kinds[0] is not None:
        changes["layer_types"] = kinds
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        changes[name] = min(EXPERTS, getattr(text, name, None) or EXPERTS)
    for name in ("num_experts_per_tok", "num_experts_per_token", "moe_topk"):
        changes[name] = min(2, getattr(text, name, None) or 2)
    if getattr(text, "head_dim", size) is None:
        text.head_dim = size
    for name, value in changes.items():
        if getattr(text, name, None) is not None:
            with suppress(AttributeError):  # some are computed from others
                setattr(text, name, value)
    if text is not config:
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(config, name, changes[name])
    return config
