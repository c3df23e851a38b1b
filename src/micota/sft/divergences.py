"""Divergences between the next-token distributions of a teacher (p) and a student (q), with their gradients.

With ``beta`` b and the mixture m = b p + (1 - b) q (Agarwal et al. 2023, arXiv 2306.13649, equation 1):

    forward_kl  KL(p|q) = sum p (log p - log q)
    reverse_kl  KL(q|p) = sum q (log q - log p)
    jsd         b KL(p|m) + (1 - b) KL(q|m)

The sums are over events. An event is a token; or, with the teacher's k most likely tokens, one of them or *all others*.
The divergence of the events is at most that of the tokens, and equal to it where all others are equally likely relative
to each other in both models. Without the last event the student would learn probabilities that are too large (Anshumann
et al. 2025, arXiv 2503.16870, which calls it a ghost token).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Events:
    """The teacher's log-probabilities at some positions.

    ``log_p`` is positions x vocabulary, or with ``ids`` (positions x k, the k tokens that are events) positions x
    (k + 1), of which the last is all other tokens. ``vocabulary`` is the number of tokens.
    """

    log_p: torch.Tensor
    vocabulary: int
    ids: torch.Tensor | None = None


def events_of(logits: torch.Tensor, top_k: int | None, candidates: int | None = None) -> Events:
    """The events of a teacher from its logits (positions x vocabulary, float32, over the temperature).

    Args:
        candidates: the most likely tokens are among the first so many; the rest of the head is padding.
    """
    log_p, vocabulary = logits.log_softmax(dim=-1), logits.shape[1]
    if top_k is None or top_k >= vocabulary:
        return Events(log_p, vocabulary)
    picked, ids = log_p[:, :candidates].topk(top_k, dim=-1)
    return Events(torch.cat([picked, _others(log_p, ids)], dim=1), vocabulary, ids)


def divergence(
    logits: torch.Tensor, events: Events, kind: str, beta: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The divergence at each position (positions), and its gradient with respect to ``logits``.

    Args:
        logits: of the student, over the temperature (positions x vocabulary, float32).
    """
    log_q = logits.log_softmax(dim=-1)
    ids = events.ids
    of_events = log_q if ids is None else torch.cat([log_q.gather(1, ids), _others(log_q, ids)], dim=1)
    value, slope = _of_events(of_events, events.log_p, kind, beta)
    # With q_v = exp(z_v) / sum exp(z): dD/dz_v = q_v (dD/dq_v - sum_w q_w dD/dq_w), and ``slope`` has q_e dD/dq_e.
    mean = slope.sum(dim=-1, keepdim=True)
    q = log_q.exp()
    if ids is None:
        return value, slope - q * mean
    # A token of the last event has the share q_v / q_others of its slope.
    others = (log_q - of_events[:, -1:]).exp() * slope[:, -1:] - q * mean
    return value, others.scatter(1, ids, slope[:, :-1] - q.gather(1, ids) * mean)


def _of_events(
    log_q: torch.Tensor, log_p: torch.Tensor, kind: str, beta: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The divergence (positions) and q dD/dq (positions x events), up to a constant times q, which cancels."""
    if kind == "forward_kl":
        p = log_p.exp()
        return (p * (log_p - log_q)).sum(dim=-1), -p
    q = log_q.exp()
    if kind == "reverse_kl":
        each = q * (log_q - log_p)
        return each.sum(dim=-1), each
    assert beta is not None
    share = torch.tensor(beta, dtype=log_q.dtype, device=log_q.device)
    log_m = torch.logaddexp(log_q + torch.log1p(-share), log_p + torch.log(share))
    # The terms of dm/dq cancel up to a constant, so that dD/dq = (1 - b) (log q - log m).
    of_q = (1 - beta) * q * (log_q - log_m)
    return (beta * log_p.exp() * (log_p - log_m) + of_q).sum(dim=-1), of_q


def _others(log_probabilities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The log-probability of all tokens but ``ids`` (positions x 1), summed, since 1 - p loses its digits near 0."""
    return log_probabilities.scatter(1, ids, -torch.inf).logsumexp(dim=-1, keepdim=True)
