"""The rows that artifacts hold, and the node that describes an artifact."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

# Files of artifacts.
COMPLETIONS, DATA, SCORES, BPC = "completions.jsonl", "data.jsonl", "scores.jsonl", "bpc.jsonl"
RANKS, TOKEN_SHIFTS, POINTS = "ranks.jsonl", "token_shifts.jsonl", "points.jsonl"
NOT_ASKED = "not_asked"  # the finish reason of a problem that does not fit the model's context
SCHEMA_VERSION = 2  # of artifacts; part of every key, so that a new layout never meets an old one


@dataclass(frozen=True, kw_only=True)
class Question:
    """A problem to ask."""

    id: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Problem(Question):
    """A problem and its gold answer, as text.

    ``answer_type`` says what answers are compared as (``auto``: by the form of the gold), ``tolerance`` is an absolute
    one, ``unit`` what a prediction may end in.
    """

    answer: str
    answer_type: str = "auto"
    tolerance: str | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model wrote, raw: one row a sample, never rewritten. Token counts leave padding out.

    ``prefilled`` is the beginning of the answer that the chat template wrote into the prompt (an opening tag);
    ``num_cot_tokens`` counts what a model that thinks wrote up to its closing tag, null where there is none.
    """

    problem_id: str
    sample: int
    prompt_hash: str
    completion: str
    finish_reason: str  # stop, length or error
    num_prompt_tokens: int
    num_tokens: int
    seconds: float
    prefilled: str = ""
    num_cot_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training example: chat messages and the completion to learn, from the arm named ``source``."""

    problem_id: str
    messages: list[dict[str, str]]
    completion: str
    num_tokens: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one grader says of one completion. ``correct`` is null where it could not tell."""

    prediction: str | None
    correct: bool | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Score:
    """A graded completion. ``correct`` is that of the declared ``grader``, null where it could not tell; ``graders``
    holds every grader's own verdict."""

    problem_id: str
    sample: int
    prediction: str | None
    correct: bool | None
    reason: str
    answer: str
    grader: str
    graders: dict[str, bool | None]
    finish_reason: str
    num_tokens: int

    @property
    def outcome(self) -> str:
        """One word: correct, incorrect, truncated (no answer before the limit), no_answer, ungradable, or not_asked."""
        if self.correct is not None:
            return "correct" if self.correct else "incorrect"
        if self.prediction is not None:
            return "ungradable"
        return {"length": "truncated", NOT_ASKED: NOT_ASKED}.get(self.finish_reason, "no_answer")


@dataclass(frozen=True, kw_only=True)
class ProbePoint:
    """A merge measured in memory with the masks of one seed; ``form`` is merged, or before or after (SFT, unmerged, of
    which density and weight are null). ``num_tokens`` is the mean of an answer."""

    form: str
    density: float | None
    weight: float | None
    seed: int
    num_problems: int
    num_correct: int
    num_truncated: int
    num_tokens: float
    merge_seconds: float
    answer_seconds: float


@dataclass(frozen=True, kw_only=True)
class ExampleScore:
    """Negative log-likelihood of one training completion under a model, eos included; ``index`` is its row in the data.

    Bits, nats over ln 2, come over UTF-8 bytes or characters: MiCoTA (arXiv 2507.01887, eq. 3) says characters and
    divides by len-utf-8, the bytes.
    """

    index: int
    problem_id: str
    source: str
    nll_nats: float
    num_bytes: int
    num_characters: int
    num_tokens: int

    @property
    def bits_per_byte(self) -> float:
        return self.nll_nats / math.log(2) / self.num_bytes

    @property
    def bits_per_character(self) -> float:
        return self.nll_nats / math.log(2) / self.num_characters


@dataclass(frozen=True, kw_only=True)
class RankedResponse:
    """One answer of a tuned model, token by token: ``ranks`` counts, for each token, the tokens that the model before
    tuning found strictly more likely there, so that 0 is its own first choice and what ties does not count."""

    index: int
    problem_id: str
    sample: int
    token_ids: list[int]
    ranks: list[int]


@dataclass(frozen=True, kw_only=True)
class TokenShift:
    """All uses of one token by a tuned model, by its rank before tuning: the first choice there (``num_unshifted``),
    second or third (``num_marginal``), or lower (``num_shifted``), as in Lin et al. 2023 (arXiv 2312.01552)."""

    token_id: int
    text: str
    count: int
    num_unshifted: int
    num_marginal: int
    num_shifted: int
    mean_rank: float
    max_rank: int

    @property
    def share_shifted(self) -> float:
        return self.num_shifted / self.count


@dataclass(frozen=True, kw_only=True)
class Node:
    """One artifact of the graph: what determines it, and the door that makes it.

    ``spec`` is the dataclass of all settings that determine the result, and of nothing else; ``inputs`` are the nodes
    it is made from. ``door`` and ``choose`` say which command makes it (``choose`` are its own overrides).
    """

    kind: str  # the folder below artifacts/; "source" for a model that is not ours to make
    stage: str
    name: str
    spec: Any
    inputs: Mapping[str, Node] = field(default_factory=dict)
    door: str = ""
    choose: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """What determines the result, for JSON."""
        return {
            "schema": SCHEMA_VERSION,
            "stage": self.stage,
            "spec": asdict(self.spec),
            "inputs": {label: node.key for label, node in self.inputs.items()},
        }

    @cached_property
    def key(self) -> str:
        """Short hash of the canonical JSON of what determines the result."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def folder(self) -> str:
        """Path below the artifacts folder."""
        return f"{self.kind}/{self.name}-{self.key}"

    @property
    def is_source(self) -> bool:
        return self.kind == "source"

    def walk(self) -> Iterator[Node]:
        """This node and all it is made from, inputs first; a node reached twice comes twice."""
        for node in self.inputs.values():
            yield from node.walk()
        yield self
