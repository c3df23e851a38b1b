"""Schema of the objective of training: the data's tokens, or the probabilities of a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from micota.config.fields import choice, fraction, part, positive, where
from micota.config.models import OtherModelConfig, is_model_path
from micota.config.sampling import SamplingConfig

TEACHERS = ("teacher", "ta", "ta_sft", "ta_merged", "long_generator", "short_generator", "large", "small")
SFT, LOGIT_KD, ON_POLICY = "sft", "logit_kd", "on_policy"
NOT_STORED, STORED = "none", ("float32", "float16")
WITH_TEACHER = (f"name={LOGIT_KD}, {ON_POLICY}",)


@dataclass(kw_only=True)
class ObjectiveConfig:
    """What the student learns from. The TA always learns by SFT."""

    name: str = choice(
        SFT,
        LOGIT_KD,
        ON_POLICY,
        default=SFT,
        about="sft: the tokens of the data (negative log-likelihood); logit_kd: the probabilities that a teacher gives "
        "to every token there (arXiv 1503.02531); on_policy: those in answers that the student samples to the prompts "
        "of the data (arXiv 2306.13649).",
        results=True,
    )
    teacher: str = where(
        f"one of {', '.join((*TEACHERS, 'model'))}, or the path of a model: a folder with a slash in its name, a hub "
        "id or bundled:NAME",
        lambda value: value in (*TEACHERS, "model") or is_model_path(value),
        "ta_merged",
        options=TEACHERS,
        about="The model whose probabilities are learnt, by its role or by its path, which sets model.path. Its "
        "tokenizer must be that of the student.",
        results=True,
        counts_with=WITH_TEACHER,
    )
    model: OtherModelConfig = part(
        OtherModelConfig,
        about="The model of teacher=model: any option of the group model, or a folder or hub id.",
        unused=("sampling", "thinking", "sft"),
        counts_with=(*WITH_TEACHER, "teacher=model"),
    )
    merge_weights: list[float] = where(
        "a list of numbers above 0 and at most 1",
        lambda value: all(0 < weight <= 1 for weight in value),
        default_factory=list,
        about="With teacher=ta_merged, the weights of merged TAs that are the teacher one after the other, each for an "
        "equal part of the training; empty: the merge of merge.",
        results=True,
    )
    divergence: str = choice(
        "forward_kl",
        "reverse_kl",
        "jsd",
        default="forward_kl",
        about="What is made small at each token: the Kullback-Leibler divergence of the student from the teacher "
        "(forward), that of the teacher from the student (reverse), or the generalized Jensen-Shannon divergence, "
        "between both.",
        results=True,
        counts_with=WITH_TEACHER,
    )
    beta: float = where(
        "a number above 0 and below 1",
        lambda value: 0 < value < 1,
        0.5,
        about="The share of the teacher in the mixture that jsd compares both models with.",
        results=True,
        counts_with=(*WITH_TEACHER, "divergence=jsd"),
    )
    temperature: float = positive(
        1.0,
        about="The logits of both models are divided by it before they are compared.",
        results=True,
        counts_with=WITH_TEACHER,
    )
    hard_weight: float = fraction(
        0.0,
        about="The share of the negative log-likelihood of the data's tokens in the loss; the rest is the divergence.",
        results=True,
    )
    top_k: int | None = positive(
        None,
        about="The teacher's most likely tokens that are compared one by one; all others count as one event. null: "
        "every token of the vocabulary.",
        unit="tokens",
        results=True,
    )

    stored: str = choice(
        NOT_STORED,
        *STORED,
        default=NOT_STORED,
        about="Whether the teacher's top_k log-probabilities at the tokens of the data are computed once and stored, "
        "as numbers of this type, in place of a teacher in memory; other trainings on the data use them too.",
        results=True,
    )
    sampling: SamplingConfig = part(
        SamplingConfig,
        about="How the student samples its answers with name=on_policy.",
        unused=("num_samples", "max_thought_tokens"),
        counts_with=(f"name={ON_POLICY}",),
    )
    round_steps: int = positive(
        8,
        about="The optimiser steps of a round of on_policy: at its start the student samples the answers of all of "
        "them.",
        unit="steps",
        results=True,
        counts_with=(f"name={ON_POLICY}",),
    )

    def conflicts(self) -> Iterator[str]:
        known: dict[str, Any] = {
            item.name: [] if item.name == "merge_weights" else item.default for item in fields(self)
        }
        changed = [
            name for name in ("hard_weight", "top_k", "stored", "merge_weights") if getattr(self, name) != known[name]
        ]
        if self.name == SFT and changed:
            yield f"{changed[0]}={getattr(self, changed[0])} with name={SFT}; accepted: objective={LOGIT_KD} with it"
        if self.merge_weights and self.teacher != "ta_merged":
            yield f"merge_weights={self.merge_weights} with teacher={self.teacher}; accepted: teacher=ta_merged"
        if self.stored != NOT_STORED and self.name == ON_POLICY:
            yield (
                f"stored={self.stored} with name={ON_POLICY}, whose answers are not known before training; accepted: "
                f"{NOT_STORED}, or objective={LOGIT_KD}"
            )
        if self.stored != NOT_STORED and self.name == LOGIT_KD and self.top_k is None:
            yield (
                f"stored={self.stored} with top_k=null, the whole vocabulary at each token; accepted: top_k=64, or "
                f"another number, or stored={NOT_STORED}"
            )
        if self.name == ON_POLICY and self.hard_weight:
            yield (
                f"hard_weight={self.hard_weight:g} with name={ON_POLICY}, where the student's own tokens would be the "
                f"labels; accepted: 0, or objective={LOGIT_KD}"
            )
