"""The teachers of a training, in order: models beside the student, or stored log-probabilities in place of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from micota.config import Config
from micota.config.curriculum import STEERED
from micota.config.objective import ObjectiveConfig
from micota.errors import ConfigError
from micota.graph.node import AnyNode, Node, Spec
from micota.graph.specs import TrainSpec

TEACHER, TARGETS = "teacher", "targets"  # inputs of a training; of several the first
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


def in_order(label: str, nodes: Sequence[AnyNode]) -> dict[str, AnyNode]:
    """Inputs of one kind by label: ``teacher``, ``teacher_2``, ..."""
    return {label if number == 1 else f"{label}_{number}": node for number, node in enumerate(nodes, start=1)}


def inputs_of(training: Node[TrainSpec], label: str) -> list[AnyNode]:
    """The inputs of one kind (``TEACHER``, ``TARGETS``), in order; empty without any."""
    return [node for name, node in training.inputs.items() if name == label or name.startswith(f"{label}_")]


def teacher_of(training: Node[TrainSpec]) -> AnyNode | None:
    """The model whose probabilities a training learns, beside it or stored, of several the first; None for SFT."""
    stored = training.inputs.get(TARGETS)
    return training.inputs.get(TEACHER) if stored is None else stored.inputs["model"]


def check_sequence(config: Config) -> None:
    """Refuse merged TAs one after the other where there cannot be such.

    Raises:
        ConfigError: parts of training mean nothing there.
    """
    weights = config.objective.merge_weights
    sft = config.student.sft
    if sft is not None and sft.curriculum.order == STEERED:
        raise ConfigError(
            f"objective.merge_weights={weights} with student.sft.curriculum.order={STEERED}, each of whose rounds is a "
            "training; accepted: objective.merge_weights=[], or another order"
        )
    if sft is not None and sft.max_flops is None and sft.max_steps is not None and sft.max_steps < len(weights):
        raise ConfigError(
            f"objective.merge_weights={weights} with student.sft.max_steps={sft.max_steps}; accepted: at least a step "
            "for each weight"
        )
    trainer = config.trainer_of(config.student)
    if trainer.continue_from is not None:
        raise ConfigError(
            f"objective.merge_weights={weights} with trainer.continue_from={trainer.continue_from}: a longer run has "
            f"other parts; accepted: null, or student.path={trainer.continue_from}, which starts from its weights"
        )
