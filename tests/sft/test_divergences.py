from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from micota.graph.specs import Distillation
from micota.sft.divergences import Events, divergence, events_of
from micota.sft.packing import IGNORED
from micota.sft.teacher import summed_divergence

KINDS = [("forward_kl", None), ("reverse_kl", None), ("jsd", 0.5), ("jsd", 0.1)]
NUM, VOCABULARY, HIDDEN = 11, 23, 8


def settings(kind: str = "forward_kl", beta: float | None = None, **changes: object) -> Distillation:
    values = {"name": "logit_kd", "temperature": 1.0, "hard_weight": 0.0, "top_k": None}
    return Distillation(**(values | {"divergence": kind, "beta": beta} | changes))  # type: ignore[arg-type]


def by_definition(student: torch.Tensor, teacher: torch.Tensor, kind: str, beta: float | None) -> torch.Tensor:
    """Sums of p log(p / q) over probabilities, position by position."""
    q, p = student.softmax(-1), teacher.softmax(-1)
    if kind == "forward_kl":
        return (p * (p / q).log()).sum(-1)
    if kind == "reverse_kl":
        return (q * (q / p).log()).sum(-1)
    assert beta is not None
    m = beta * p + (1 - beta) * q
    return beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
@pytest.mark.parametrize("top_k", [None, 5, VOCABULARY])
def test_value_and_gradient_are_those_of_the_definition(kind: str, beta: float | None, top_k: int | None) -> None:
    torch.manual_seed(0)
    teacher = torch.randn(NUM, VOCABULARY, dtype=torch.double)
    student = torch.randn(NUM, VOCABULARY, dtype=torch.double, requires_grad=True)
    events = events_of(teacher, top_k)
    value, grad = divergence(student.detach(), events, kind, beta)
    coarse = [student, teacher]
    if events.ids is not None:  # the probabilities of the k tokens, and of all others together
        chosen = torch.zeros(NUM, VOCABULARY, dtype=torch.bool).scatter(1, events.ids, True)
        pairs = [(each.softmax(-1), each.softmax(-1).masked_fill(chosen, 0)) for each in coarse]
        coarse = [torch.cat([p.gather(1, events.ids), rest.sum(-1, keepdim=True)], 1).log() for p, rest in pairs]
    expected = by_definition(coarse[0], coarse[1], kind, beta)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), student)[0])


def test_fewer_events_never_give_a_larger_divergence() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(NUM, VOCABULARY), torch.randn(NUM, VOCABULARY)
    for kind, beta in KINDS:
        values = [divergence(student, events_of(teacher, k), kind, beta)[0] for k in (1, 4, 12, None)]
        assert all((small <= large + 1e-6).all() for small, large in pairwise(values)), kind


@pytest.mark.parametrize(("kind", "beta"), KINDS)
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_chunks_give_the_loss_of_whole_logits(kind: str, beta: float | None, rows: int) -> None:
    """With a temperature, a share of the labels' likelihood, a bound of the logits, and a teacher of fewer rows."""
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(NUM, HIDDEN), torch.randn(VOCABULARY, HIDDEN), torch.randn(VOCABULARY)
    teacher, labels = torch.randn(NUM, VOCABULARY - 2), torch.randint(0, VOCABULARY - 2, (NUM,))
    chosen = settings(kind, beta, temperature=2.0, hard_weight=0.3)

    def events(start: int, stop: int) -> Events:
        return events_of(teacher[start:stop] / chosen.temperature, None)

    results = []
    for whole in (True, False):
        leaves = [each.clone().requires_grad_() for each in (hidden, weight, bias)]
        if whole:
            logits = 3 * torch.tanh(functional.linear(*leaves) / 3)
            each = by_definition(logits[:, : VOCABULARY - 2] / 2, teacher / 2, kind, beta).sum()
            loss = (0.7 * each + 0.3 * functional.cross_entropy(logits, labels, reduction="sum")) / 7
        else:
            loss = summed_divergence(
                leaves[0], leaves[1], labels, 7.0, events=events, settings=chosen, bias=leaves[2], cap=3.0, rows=rows
            )
        (3 * loss).backward()
        results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for expected, value in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_the_loss_is_that_of_trl(kind: str, beta: float | None, temperature: float) -> None:
    """On one batch of packed positions, of which some have no label. TRL's import takes seconds."""
    from trl.experimental.gkd import GKDTrainer

    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9, VOCABULARY), torch.randn(2, 9, VOCABULARY)
    labels = torch.randint(0, VOCABULARY, (2, 9))
    labels[0, :3], labels[1, 6:] = IGNORED, IGNORED
    known = labels != IGNORED
    leaf = student.clone().requires_grad_()
    theirs = GKDTrainer.generalized_jsd_loss(
        leaf, teacher, labels, {"forward_kl": 0.0, "reverse_kl": 1.0}.get(kind, beta or 0), temperature
    )
    theirs.backward()
    chosen = settings(kind, beta, temperature=temperature)
    ours = student[known].clone().requires_grad_()
    at = teacher[known] / temperature
    loss = summed_divergence(
        ours, torch.eye(VOCABULARY), labels[known], float(known.sum()),
        events=lambda start, stop: events_of(at[start:stop], None), settings=chosen, rows=4,
    )  # fmt: skip
    loss.backward()
    torch.testing.assert_close(loss, theirs, rtol=0, atol=1e-5)
    assert leaf.grad is not None
    torch.testing.assert_close(ours.grad, leaf.grad[known], rtol=0, atol=1e-6)
