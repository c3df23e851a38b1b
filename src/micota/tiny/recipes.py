"""The bundled models in one table: shapes, habits of their training data, and stages."""

from dataclasses import dataclass

from micota.tiny.task import LONG, SHORT, HabitMix

HEAD_DIM = 32
"""Of every model: vLLM on CPU rejects smaller heads."""

Corpus = tuple[tuple[float, HabitMix], ...]
"""Habit mixes and how often a solution comes from each; the weights sum to 1."""

# Mix A teaches every habit equally; mix B makes the useful ones (announce, explain) common and the redundant
# ones (checks) rare. A model that ends on B knows all habits but leans towards the useful ones.
MIX_A = HabitMix(pre=0.12, ann=0.12, dec=0.12, chk=0.12, chk_rates=(0.3, 0.6, 1.0), chk2=0.25, fin=0.12)
MIX_B = HabitMix(pre=0.1, ann=0.35, dec=0.35, chk=0.08, chk_rates=(0.5,), chk2=0.0, fin=0.04)

A: Corpus = ((1.0, MIX_A),)
B: Corpus = ((1.0, MIX_B),)
MOSTLY_LONG: Corpus = ((0.8, LONG), (0.2, SHORT))
ONLY_LONG: Corpus = ((1.0, LONG),)


@dataclass(frozen=True)
class Stage:
    """Steps on one corpus. Each stage has new optimisers and a separate warm-up and decay."""

    corpus: Corpus
    num_steps: int
    muon_lr: float
    adamw_lr: float


@dataclass(frozen=True)
class Recipe:
    """The shape of a model and the stages it goes through."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    stages: tuple[Stage, ...]
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "teacher": Recipe(
        96, 3, 3, 256,
        (
            Stage(MOSTLY_LONG, 510, 0.02, 5e-3),
            Stage(ONLY_LONG, 130, 0.01, 2e-3),
        ),
    ),
    "ta": Recipe(
        64, 3, 2, 176,
        (
            Stage(A, 420, 0.02, 5e-3),
            Stage(A, 310, 0.02, 4e-3),
            Stage(B, 540, 0.015, 3e-3),
            Stage(B, 1040, 0.015, 3e-3),
        ),
    ),
    # 57k parameters; 48 wide would need heads of 24. Narrower MLP instead.
    # Training of the students stops where they solve single steps but fail on long chains. Accuracy rises steeply with
    # the steps of the first stage (660: 61 %, 720: 81 % on the development problems, on which they were chosen).
    "student": Recipe(
        48, 2, 2, 128,
        (
            Stage(A, 720, 0.02, 5e-3),
            Stage(B, 240, 0.015, 4e-3),
        ),
    ),
    "student2": Recipe(
        64, 2, 2, 176,
        (
            Stage(B, 560, 0.02, 5e-3),
        ),
    ),
}  # fmt: skip
