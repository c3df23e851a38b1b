"""The rows of artifacts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# Files of artifacts.
COMPLETIONS, DATA, SCORES, BPC = "completions.jsonl", "data.jsonl", "scores.jsonl", "bpc.jsonl"
SECONDS = "seconds.json"  # beside scores.jsonl, which has no times: it is the same whenever it is made
RANKS, TOKEN_SHIFTS, POINTS = "ranks.jsonl", "token_shifts.jsonl", "points.jsonl"
REPETITIONS, FORECAST = "repetitions.jsonl", "forecast.jsonl"
NOT_PROMPTED = "not_prompted"  # the finish reason of a problem that does not fit the model's context


RANK_CLIP = 100  # of a token in RSR, as in the code of arXiv 2601.14249
BEYOND = (1, 10, 100)  # ranks beyond which tokens are counted
SMALLEST_NLL = 1e-12  # nats; below it a completion is certain


@dataclass(frozen=True, kw_only=True)
class Question:
    """A problem without its answer."""

    id: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Problem(Question):
    """A problem and its gold answer, as text.

    ``answer_type`` is the type by which answers are compared (``auto``: by the form of the gold). ``tolerance`` is
    absolute. ``unit`` is a unit that a prediction may end in.
    """

    answer: str
    answer_type: str = "auto"
    tolerance: str | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """The raw text that a model generated: one row per sample, never rewritten. Token counts exclude padding.

    ``prefilled`` is the beginning of the answer that the chat template puts into the prompt (an opening tag).
    ``num_cot_tokens`` counts the tokens up to the closing tag of the chain of thought, null if there is no such tag.
    ``error`` is what an endpoint answered to a request that it refused, or null.
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
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One training example: chat messages and the completion to learn, from the recipe named ``source``.

    With ``learn_all`` the turns of the assistant in ``messages`` are learnt, too.
    """

    problem_id: str
    messages: list[dict[str, str]]
    completion: str
    num_tokens: int
    source: str
    learn_all: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The verdict of one grader on one completion. ``correct`` is null if the grader cannot decide."""

    prediction: str | None
    correct: bool | None
    reason: str


AMBIGUOUS = "ambiguous"  # two different final answers, which is not right; the reason of the verdict begins with it
OUTCOMES = ("correct", "incorrect", "truncated", "no_answer", "ungradable", AMBIGUOUS, NOT_PROMPTED)


def outcome_of(correct: bool | None, prediction: str | None, finish_reason: str | None, reason: str = "") -> str:
    """Return one of ``OUTCOMES`` for a graded completion; ``truncated`` has no answer before the token limit."""
    if correct is not None:
        return "correct" if correct else "incorrect"
    if reason.startswith(AMBIGUOUS):
        return AMBIGUOUS
    if prediction is not None:
        return "ungradable"
    return {"length": "truncated", NOT_PROMPTED: NOT_PROMPTED}.get(finish_reason or "", "no_answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A graded completion. ``correct`` is the verdict of the declared ``grader``, null if it cannot decide; ``graders``
    has the verdict of every grader.

    Samples of a problem with equal answers have the same ``group``, null without an answer or with one sample a
    problem. ``seconds`` is the time from the start of the answer to its end, null in the
    file, which has none (``artifacts.scores.read_scores`` adds them); ``level`` and ``subject`` are those of the
    problem, null where its rows have none. ``right_at`` has by token budget whether the answer cut there is right,
    where that was measured.
    """

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
    group: int | None = None
    seconds: float | None = None
    level: str | None = None
    subject: str | None = None
    right_at: dict[str, bool] | None = None

    @property
    def outcome(self) -> str:
        """The outcome by ``outcome_of``."""
        return outcome_of(self.correct, self.prediction, self.finish_reason, self.reason)


@dataclass(frozen=True, kw_only=True)
class MergePoint:
    """A merge evaluated in memory with the masks of one seed.

    ``form`` is ``merged``, or ``before`` or ``after`` (SFT) for the two unmerged models, whose density and weight are
    null. ``weight`` is the mean over layers where ``by_layer`` has the values by layer, as ``merge.weight`` takes them.
    ``num_tokens`` is the mean over answers and ``tokens_error`` its standard error over problems, ``artifact`` the
    folder of the answers below the artifacts. ``accuracy_low`` and ``accuracy_high`` are the 95 % interval of the
    accuracy from 0 to 1. ``num_closed`` counts answers that close a thought, null without tags. ``is_tied`` is whether
    a merge is not distinguishable in accuracy from the most accurate one, on the same problems. ``student_value`` is
    what the student measured: bits per byte, or its accuracy after tuning.
    """

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
    artifact: str = ""
    by_layer: list[dict[str, Any]] | None = None
    tokens_error: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    num_closed: int | None = None
    is_tied: bool | None = None
    student_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleScore:
    """Negative log-likelihood of one training completion under a model, eos included; ``index`` is its row in the data.

    Bits are nats / ln 2. They are divided by UTF-8 bytes or by characters: MiCoTA (arXiv 2507.01887, eq. 3) names
    characters and divides by len-utf-8, the bytes.

    ``rank_sum`` adds up the ranks of the tokens (1: the most likely one), each at most ``RANK_CLIP``; ``num_beyond``
    has by rank the number of tokens beyond it.
    """

    index: int
    problem_id: str
    source: str
    nll_nats: float
    num_bytes: int
    num_characters: int
    num_tokens: int
    rank_sum: int
    num_beyond: dict[str, int]

    @property
    def bits_per_byte(self) -> float:
        return self.nll_nats / math.log(2) / self.num_bytes

    @property
    def bits_per_character(self) -> float:
        return self.nll_nats / math.log(2) / self.num_characters

    @property
    def rank_surprisal_ratio(self) -> float:
        """RSR (arXiv 2601.14249): the mean rank of a token over its mean surprisal in nats. It is low where the student
        finds tokens improbable, and yet ranks them among its first."""
        return self.rank_sum / max(self.nll_nats, SMALLEST_NLL)


@dataclass(frozen=True, kw_only=True)
class RankedResponse:
    """One answer of a tuned model, token by token.

    ``ranks`` has for each token the number of tokens that are strictly more likely there under the model before tuning.
    So 0 is that model's first choice, and ties do not count.
    """

    index: int
    problem_id: str
    sample: int
    token_ids: list[int]
    ranks: list[int]


@dataclass(frozen=True, kw_only=True)
class TokenShift:
    """All uses of one token by a tuned model, counted by its rank before tuning: first (``num_unshifted``), second or
    third (``num_marginal``), or lower (``num_shifted``), as in Lin et al. 2023 (arXiv 2312.01552)."""

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
class Repetition:
    """One run of an evaluation, compared answer by answer with the run ``against`` (null: the first, which is compared
    with none). ``left_out`` is the reason why it was not run, with counts of 0, or empty."""

    label: str
    engine: str
    batch_size: int
    num_threads: int
    against: str | None
    num_answers: int = 0
    num_correct: int = 0
    num_answers_differ: int = 0
    num_scores_differ: int = 0
    left_out: str = ""

    @property
    def share_answers(self) -> float:
        """The share of answers whose text differs."""
        return self.num_answers_differ / self.num_answers

    @property
    def share_scores(self) -> float:
        """The share of answers of which one is right where the other is not."""
        return self.num_scores_differ / self.num_answers


@dataclass(frozen=True, kw_only=True)
class ForecastRow:
    """What a student was expected to gain from one recipe before training, as fractions of average accuracy, with a
    95 % interval, and what was known (keys of ``analysis.forecast.FEATURES``)."""

    recipe: str
    gain: float
    low: float
    high: float
    known: dict[str, float]
