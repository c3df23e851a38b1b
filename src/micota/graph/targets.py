"""From a config to the stored log-probabilities of a teacher, which a training reads in place of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.objective import ObjectiveConfig
from micota.graph.node import AnyNode, Node, Spec
from micota.graph.specs import TrainSpec

TARGETS = "targets"  # the input of a training
BYTES = {"float32": 4, "float16": 2}  # of a log-probability


@dataclass(frozen=True, kw_only=True)
class TargetsSpec(Spec):
    """The log-probabilities that a teacher gives to its ``top_k`` most likely tokens, and to all others together, at
    each learnt token of the data. Tokens are those of the teacher's tokenizer, so that students share them; examples
    are limited as for training (``max_tokens``, ``overlong``). ``dtype`` is that of the log-probabilities."""

    stage = "targets"
    kind = "targets"

    top_k: int
    temperature: float
    dtype: str
    precision: str
    max_tokens: int
    overlong: str

    def row_bytes(self, top_k: int | None = None) -> int:
        """Bytes of the numbers at one token: k ids in int32, and k + 1 log-probabilities.

        Args:
            top_k: fewer tokens than the settings have, of a vocabulary that is as small.
        """
        k = self.top_k if top_k is None else top_k
        return 4 * k + (k + 1) * BYTES[self.dtype]


def targets(objective: ObjectiveConfig, teacher: AnyNode, training: Node[TrainSpec]) -> Node[TargetsSpec]:
    """The stored log-probabilities of ``teacher`` at the data of a training, which its command makes too."""
    assert objective.top_k is not None
    data, sft = training.inputs["data"], training.spec.sft
    return Node(
        name=f"{data.name}@{teacher.name}",
        spec=TargetsSpec(
            top_k=objective.top_k,
            temperature=float(objective.temperature),
            dtype=objective.stored,
            precision=training.spec.precision,
            max_tokens=sft.max_tokens,
            overlong=sft.overlong,
        ),
        inputs={"model": teacher, "data": data},
        command=training.command,
        choose=training.choose,
        runs=training.runs,
    )


def teacher_of(training: Node[TrainSpec]) -> AnyNode | None:
    """The model whose probabilities a training learns, beside it or stored; None for SFT."""
    stored = training.inputs.get(TARGETS)
    return training.inputs.get("teacher") if stored is None else stored.inputs["model"]
