"""Schemas of where and how things run: engines, endpoints, evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from micota.config.addresses import URL, holds_key, is_url
from micota.config.engines import ENGINES, EngineKind
from micota.config.fields import Words, choice, non_negative, one_of, part, plain, positive, where, words
from micota.config.graders import GRADERS
from micota.config.sampling import SamplingConfig

AUTO = "auto"
AUTOMATIC = ("hf", "vllm")  # what engine=auto may stand for
MILLION = 1e6


@dataclass(kw_only=True)
class EndpointConfig:
    """An OpenAI-compatible API, its time limit and its retries."""

    url: str = where(URL, is_url, about="The address of the API.", results=False)
    key_variable: str = where(
        "the name of an environment variable, in capital letters, and not the key",
        lambda value: re.fullmatch(r"[A-Z_][A-Z0-9_]*", value) is not None,
        "OPENAI_API_KEY",
        about="The environment variable that holds the key, if one is needed.",
        results=False,
    )
    timeout_s: float = positive(60.0, about="The longest that one reply may take.", unit="seconds", results=False)
    retries: int = non_negative(
        4, about="How often a failed request is sent again, after growing waits.", results=False
    )


@dataclass(kw_only=True)
class JudgeConfig(EndpointConfig):
    """A model behind an endpoint that judges whether an answer is right. Its column is beside those of the rules
    and never changes them.
    """

    url: str | None = where(  # type: ignore[assignment]
        "null, or " + URL,
        lambda value: value is None or is_url(value),
        None,
        about="The address of the API; null: there is no judge.",
        results=False,
    )
    model: str | None = words(None, about="The model that judges, by its name at the API.", results=True)
    max_tokens: int = positive(16, about="The most tokens of a verdict.", unit="tokens", results=False)
    concurrency: int = positive(16, about="Requests at once.", unit="requests", results=False)


@dataclass(kw_only=True)
class EvaluationConfig:
    """How answers are sampled for evaluation (greedy by default) and graded. All graders run; one is the score."""

    sampling: SamplingConfig = part(SamplingConfig, about="How answers are sampled.")
    num_samples_of: dict[str, int] = where(
        "a map from benchmarks to whole numbers above 0",
        lambda value: all(count > 0 for count in value.values()),
        default_factory=dict,
        about="Answers to each problem of single benchmarks, by name, as {aime24: 64}; sampling.num_samples is for all "
        "others.",
        results=True,
    )
    by_benchmark: bool = plain(
        True, about="false: sampling.num_samples is for all benchmarks, whatever num_samples_of has.", results=True
    )
    budgets: list[int] = where(
        "a list of different whole numbers above 0",
        lambda value: all(type(count) is int and count > 0 for count in value) and len(set(value)) == len(value),
        default_factory=list,
        about="Accuracy also with stored answers cut at these numbers of tokens, as [512, 1024, 2048]; it needs the "
        "tokenizer of the model.",
        unit="tokens",
        results=True,
    )
    grader: str = one_of(GRADERS, default="typed", about="The grader that is the score.", results=True)
    judge: JudgeConfig = part(JudgeConfig, about="A model that judges answers.")
    num_workers: int | None = positive(
        None, about="Grading processes; null: one a core.", unit="processes", results=False
    )
    timeout_s: float = positive(
        5.0, about="The longest that one symbolic comparison may take.", unit="seconds", results=False
    )
    worker_bytes: int = where(
        "a number of bytes of at least 512 MiB",
        lambda value: value >= 2**29,
        2 * 2**30,
        about="The most memory of a grading process.",
        unit="bytes",
        results=False,
    )

    def sampling_of(self, benchmark: str) -> SamplingConfig:
        """How answers to one benchmark are sampled."""
        single = self.num_samples_of if self.by_benchmark else {}
        count = single.get(benchmark, self.sampling.num_samples)
        return replace(self.sampling, num_samples=count)

    def conflicts(self) -> Iterator[str]:
        several = {name: count for name, count in self.num_samples_of.items() if count > 1 and self.by_benchmark}
        if several and self.sampling.temperature == 0:
            yield (
                f"num_samples_of={several} with temperature=0 repeats one answer; accepted: 1 for each, or "
                "evaluation.sampling.temperature above 0"
            )
        if self.budgets and GRADERS[self.grader].verdicts is None:
            yield f"budgets={self.budgets} with grader={self.grader}; accepted: a grader that is a rule, or budgets=[]"
        is_half = (self.judge.url is None) != (self.judge.model is None)
        if is_half or (GRADERS[self.grader].verdicts is None and self.judge.url is None):
            yield (
                "a judge needs both judge.url and judge.model; grader=judge needs a judge; accepted: all of them, or "
                "evaluation.judge.url=null"
            )


OF_REQUESTS = ("model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stream")
EXTRA = (
    "a map of fields of a request, without keys or passwords (key_variable names the variable that holds the key), and "
    f"with no value for what has a key of its own ({', '.join(OF_REQUESTS)})"
)


def is_extra(fields_of_request: dict[str, Any]) -> bool:
    """Whether a map adds fields to requests: another temperature or model there would be none that a key has."""
    named = [name for name in OF_REQUESTS if fields_of_request.get(name) is not None]
    return not named and not holds_key(fields_of_request)


def _in_yaml(value: Any) -> str:
    """A default as a user types it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(kw_only=True)
class ServerConfig(EndpointConfig):
    """The server of ``engine=server``."""

    model: str | None = words(
        None,
        about="The name of the model at the server; null: its path. It must be the same model, and enters no key.",
        results=False,
    )
    extra_body: dict[str, Any] = where(
        EXTRA,
        is_extra,
        default_factory=dict,
        about="More fields of each request: settings that only some servers know.",
        results=True,
    )
    stream: bool = plain(
        False, about="true: replies arrive piece by piece, so that no gateway ends a long one.", results=False
    )
    max_errors: int = positive(
        8, about="The run ends after this many refused requests in a row; others are rows with an error.", results=False
    )


@dataclass(kw_only=True)
class ChatConfig(EndpointConfig):
    """The API of ``engine=chat``, which takes chat messages and renders them itself. Prices are in any one currency."""

    model: str | None = words(
        None,
        about="The name of the model at the API; null: its path. It must be the same model, and enters no key.",
        results=False,
    )
    stream: bool = plain(True, about="Replies arrive piece by piece, so that no proxy ends a long one.", results=False)
    extra_body: dict[str, Any] = where(
        EXTRA,
        is_extra,
        default_factory=dict,
        about="More fields of each request; null takes a field out, as {seed: null} for an API that refuses seeds.",
        results=True,
    )
    requests_per_minute: float | None = positive(
        None, about="The most requests a minute; null: no limit.", unit="requests", results=False
    )
    tokens_per_minute: float | None = positive(
        None, about="The most tokens of prompts and completions a minute; null: no limit.", unit="tokens", results=False
    )
    prompt_price: float = non_negative(0.0, about="The price of a million tokens of prompts.", results=False)
    completion_price: float = non_negative(
        0.0, about="The price of a million tokens of completions, thoughts included.", results=False
    )
    max_cost: float | None = positive(
        None,
        about="The most that the completions of one artifact may cost, those of earlier runs included; null: no limit.",
        results=False,
    )
    max_errors: int = positive(
        8, about="The run ends after this many refused requests in a row; others are rows with an error.", results=False
    )

    def price_of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of tokens."""
        return (self.prompt_price * prompt_tokens + self.completion_price * completion_tokens) / MILLION

    def conflicts(self) -> Iterator[str]:
        if self.max_cost is not None and not (self.prompt_price or self.completion_price):
            yield f"max_cost={self.max_cost:g} without prices; accepted: prompt_price or completion_price above 0 too"


@dataclass(kw_only=True)
class RayConfig:
    """The cluster of ``engine=ray``."""

    address: str | None = where(
        "null, auto, or an address without a name and a password, as ray://HEAD:10001",
        lambda value: value is None or ("@" not in value and value.isprintable()),
        None,
        about="The address, as ray://HEAD:10001, or auto; null: the cluster of this machine, or a new one on it alone.",
        results=False,
    )
    workers: int = positive(1, about="Copies of the model.", results=False)


@dataclass(kw_only=True)
class EngineConfig:
    """The engine that runs a model for generation."""

    name: str = where(
        Words(lambda: f"one of {AUTO}, " + ", ".join(ENGINES)),
        lambda value: value == AUTO or value in ENGINES,
        options=ENGINES,
        about="The engine of completions: transformers (hf), vLLM, a server of token ids, an API of chat messages "
        "(chat), or vLLM on a Ray cluster (a way to run vLLM, which shares its keys); auto: vLLM where it is installed "
        "and there is a GPU, else hf.",
        results=True,
    )
    batch_size: int | None = positive(
        None, about="Rows in one batch; null: 64, or 256 in vLLM.", unit="rows", results=False
    )
    dtype: str = choice(
        "auto",
        "float32",
        "bfloat16",
        default="auto",
        about="The type of weights; auto: as the model is stored.",
        results=True,
    )
    device: str = choice("auto", "cpu", "cuda", default="auto", about="The device of hf.", results=False)
    tensor_parallel: int | None = positive(
        None,
        about="GPUs that share one model in vLLM; null: as few as the weights need, of those that there are.",
        unit="GPUs",
        results=False,
    )
    memory_fraction: float = where(
        "above 0 and at most 1",
        lambda value: 0 < value <= 1,
        0.9,
        about="The share of each GPU's memory that vLLM takes.",
        results=False,
    )
    prefix_caching: bool = plain(True, about="vLLM computes the common beginning of prompts once.", results=False)
    batch_invariant: bool = plain(
        False, about="true: a row's numbers do not depend on its batch in vLLM; slower.", results=True
    )
    max_model_len: int | None = positive(
        None,
        about="The most tokens of prompt and completion; null: the most that the model allows.",
        unit="tokens",
        results=False,
    )
    server: ServerConfig | None = part(default=None, about="The server, with engine=server.")
    chat: ChatConfig | None = part(default=None, about="The API, with engine=chat.")
    ray: RayConfig | None = part(default=None, about="The cluster, with engine=ray.")

    @property
    def parts(self) -> int:
        """GPUs that share one model; 1 where their number is still open."""
        return self.tensor_parallel or 1

    @property
    def is_elsewhere(self) -> bool:
        """Whether the model runs on other machines than the stage."""
        at_cluster = self.ray is not None and self.ray.address is not None
        return self.server is not None or self.chat is not None or at_cluster

    @property
    def rows(self) -> int:
        """Rows in one batch."""
        return self.batch_size or ENGINES[self.name].batch_size

    @property
    def embedded_rows(self) -> int:
        """Rows in one batch of the embedded engine, which generates answers during training whatever engine is set."""
        return self.batch_size or ENGINES["hf"].batch_size

    @property
    def numerics(self) -> str:
        """The part of an engine that changes numbers and so enters keys, beside ``dtype``. Ray is a way to run vLLM."""
        name = self.name if self.name == AUTO else ENGINES[self.name].numerics or self.name
        return f"{name}-batch_invariant" if self.batch_invariant else name

    @property
    def extra_body(self) -> dict[str, Any]:
        """The fields of each request that only some servers know; empty without a server."""
        endpoint = self.server or self.chat
        return dict(endpoint.extra_body) if endpoint else {}

    def conflicts(self) -> Iterator[str]:
        if self.name != AUTO and self.name not in ENGINES:
            return  # its check names it
        possible = AUTOMATIC if self.name == AUTO else (self.name,)
        for item in fields(self):
            owners = [kind.name for kind in ENGINES.values() if item.name in kind.settings]
            value = getattr(self, item.name)
            if owners and not {*possible} & {*owners} and value != item.default:
                listed = " and ".join(f"engine={name}" for name in owners)
                yield (
                    f"{item.name}={value} is a setting of {listed}, and this is {self.name}; accepted: "
                    f"{item.name}={_in_yaml(item.default)}, or one of these engines"
                )
        needs = None if self.name == AUTO else ENGINES[self.name].needs
        if needs is not None and getattr(self, needs) is None:
            yield f"engine={self.name} needs {needs}, which is null; accepted: engine={self.name}, which sets it"


def _check_engine(kind: EngineKind) -> None:
    known = {item.name for item in fields(EngineConfig)}
    unknown = set(kind.settings) - known
    if unknown:
        raise TypeError(f"engine {kind.name!r} has setting {min(unknown)!r}, which engine does not have")
    if kind.needs is not None and kind.needs not in kind.settings:
        raise TypeError(f"engine {kind.name!r} needs {kind.needs!r}, which is not one of its settings")


ENGINES.for_each(_check_engine)
