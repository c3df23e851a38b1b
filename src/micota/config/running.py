"""Schemas of where and how things run: engines, trainers, endpoints, evaluation, trackers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from micota.config.fields import choice, non_negative, positive, slug, where
from micota.config.models import SamplingConfig
from micota.config.problems import GRADERS


@dataclass(kw_only=True)
class EndpointConfig:
    """An OpenAI-compatible API, and how patiently it is asked. The key, if one is needed, is read from
    ``key_variable``."""

    url: str = where("the base URL of an OpenAI-compatible API, as http://localhost:8000/v1", lambda v: "://" in v)
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = positive(60.0)
    retries: int = non_negative(4)


@dataclass(kw_only=True)
class JudgeConfig(EndpointConfig):
    """A model behind an endpoint that is asked whether an answer is right; its column stands beside those of the rules
    and is never mixed into them. Off where ``url`` is null."""

    url: str | None = where(  # type: ignore[assignment]
        "null, or the base URL of an OpenAI-compatible API, as http://localhost:8000/v1",
        lambda value: value is None or "://" in value,
        None,
    )
    model: str | None = None
    max_tokens: int = positive(16)
    concurrency: int = positive(16)


@dataclass(kw_only=True)
class EvaluationConfig:
    """How answers are drawn for evaluation (greedy by default) and graded. All graders run; ``grader`` is the score.

    ``timeout_s`` and ``worker_bytes`` limit the time of one symbolic comparison and the memory of the process it runs
    in; ``num_workers`` null is one process a core.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    grader: str = choice(*GRADERS, default="typed")
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    num_workers: int | None = positive(None)
    timeout_s: float = positive(5.0)
    worker_bytes: int = where("a number of bytes of at least 512 MiB", lambda value: value >= 2**29, 2 * 2**30)

    def conflicts(self) -> Iterator[str]:
        is_half = (self.judge.url is None) != (self.judge.model is None)
        if is_half or (self.grader == "judge" and self.judge.url is None):
            yield "a judge needs both judge.url and judge.model; grader=judge needs a judge"


@dataclass(kw_only=True)
class ServerConfig(EndpointConfig):
    """The server of ``engine=server``. ``extra_body`` is sent with each request, for what one server knows and another
    does not."""

    model: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class RayConfig:
    """The cluster of ``engine=ray``, and how many copies of the model work there."""

    address: str | None = None
    workers: int = positive(1)


ENGINES = ("hf", "vllm", "server", "ray")
VLLM_FIELDS = ("tensor_parallel", "memory_fraction", "prefix_caching", "batch_invariant")


@dataclass(kw_only=True)
class EngineConfig:
    """What runs a model for generation. ``batch_size`` is rows at once.

    ``max_model_len`` is the longest prompt + completion (null: the model's own). The fields between are vLLM's: GPUs
    that share one model, the part of their memory that vLLM takes for itself, whether prompts that begin alike are
    computed once, and whether a row's numbers may depend on its neighbours.
    """

    name: str = choice(*ENGINES)
    batch_size: int = positive(64)
    dtype: str = choice("auto", "float32", "bfloat16", default="auto")
    device: str = choice("auto", "cpu", "cuda", default="auto")
    tensor_parallel: int = positive(1)
    memory_fraction: float = where("above 0 and at most 1", lambda value: 0 < value <= 1, 0.9)
    prefix_caching: bool = True
    batch_invariant: bool = False
    max_model_len: int | None = positive(None)
    server: ServerConfig | None = None
    ray: RayConfig | None = None

    @property
    def numerics(self) -> str:
        """What of an engine changes numbers, and so enters keys, beside ``dtype``: Ray is a way to run vLLM."""
        name = "vllm" if self.name == "ray" else self.name
        return f"{name}-batch_invariant" if self.batch_invariant else name

    def conflicts(self) -> Iterator[str]:
        for item in fields(self) if self.name not in ("vllm", "ray") else ():
            if item.name in VLLM_FIELDS and getattr(self, item.name) != item.default:
                seen = f"{item.name}={getattr(self, item.name)}"
                yield f"{seen} is a setting of engine=vllm and engine=ray, and this is {self.name}"
        if self.max_model_len is not None and self.name == "hf":
            yield f"max_model_len={self.max_model_len} is a setting of the other engines, and this is hf"
        for name in ("server", "ray"):
            if (getattr(self, name) is not None) != (self.name == name):
                yield f"{name} is a setting of engine={name}, which needs it, and this is {self.name}"


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how training runs: ``pack_length`` per packed row, ``micro_batch_rows`` rows per micro-batch, a
    checkpoint every ``checkpoint_every`` steps, the validation loss every ``validate_every`` (null: at the end alone),
    and the first ``evaluate_problems`` of each of ``bench`` asked every ``evaluate_every`` (null: never). Weights,
    gradients and optimiser states are sharded over ``devices`` x ``num_nodes``. Of all this, ``precision`` alone
    changes results."""

    name: str = slug()
    accelerator: str = choice("cpu", "gpu")
    precision: str = choice("32-true", "bf16-mixed", "bf16-true")
    devices: int = positive(1)  # on each node
    num_nodes: int = positive(1)
    pack_length: int = positive(16384)
    micro_batch_rows: int = positive(1)
    attention: str = choice("auto", "flash_attn", "varlen", "sequences", "flex", "sdpa", "eager", default="auto")
    loss: str = choice("auto", "chunked", "liger", default="auto")
    checkpoint_every: int = positive(100)
    validate_every: int | None = positive(None)
    evaluate_every: int | None = positive(None)
    evaluate_problems: int = positive(32)
    activation_checkpointing: str = choice("auto", "none", "selective", "full", default="auto")
    cpu_offload: bool = False  # of weights, gradients and optimiser states, where they are sharded
    check_memory: bool = True  # refuse what is not likely to fit
    peak_tflops: float | None = positive(None)  # of one device, for the MFU; null: known for common GPUs

    @property
    def world_size(self) -> int:
        return self.devices * self.num_nodes

    def conflicts(self) -> Iterator[str]:
        if self.cpu_offload and self.accelerator == "cpu":
            yield "cpu_offload=True with accelerator=cpu, where everything is there already; use trainer=gpu"
        if self.evaluate_every is not None and self.world_size > 1:
            yield (
                f"evaluate_every={self.evaluate_every} with {self.world_size} devices: a model in shards is not asked "
                "while it is trained; accepted: evaluate_every=null (validate_every works), or devices=1"
            )


@dataclass(kw_only=True)
class TrackerConfig:
    """Where runs are tracked; offline runs of W&B are kept below the artifacts until ``wandb sync``.

    A table has at most ``table_rows``. Models are described, and with ``log_models`` uploaded too.
    """

    name: str = choice("wandb", "none")
    project: str = "micota"
    entity: str | None = None
    mode: str = choice("online", "offline", default="online")
    table_rows: int = positive(200)
    log_models: bool = False


@dataclass(kw_only=True)
class HubConfig:
    """Where data go on the Hugging Face hub; ``repo`` null is NAME-KEY in the account of the token."""

    repo: str | None = where(
        "null, or ACCOUNT/NAME", lambda value: value is None or len([*filter(None, value.split("/"))]) == 2, None
    )
    private: bool = True
