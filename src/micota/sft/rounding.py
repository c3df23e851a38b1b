"""AdamW for bfloat16 weights: float32 moments, and weights rounded up or down at random.

A step of fine-tuning is smaller than half the distance between neighbouring bfloat16 numbers for most weights, so that
rounding to the nearest undoes it: at a learning rate of 1e-5 most weights never move. Stochastic rounding goes to
either neighbour with a probability by distance, and so is right in the mean (Gupta et al. 2015, arXiv 1502.02551).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from micota.sft.sharding import local

MOMENTS = ("exp_avg", "exp_avg_sq")
SLICE = 2**24  # elements that are updated at a time; their float32 copies exist for a moment


class RoundedAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with 12 bytes a weight, gradient and moments included.

    The random numbers are those of the device's generator, which a training step seeds. Float32 weights (adapters) are
    not rounded.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of the base class, which casts moments to the dtype of their weight."""
        super().load_state_dict(state_dict)
        indices = [index for group in state_dict["param_groups"] for index in group["params"]]
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for index, weight in zip(indices, weights, strict=True):
            for name in MOMENTS if index in state_dict["state"] else ():
                moment = state_dict["state"][index][name]
                self.state[weight][name] = moment.to(device=weight.device, dtype=torch.float32)

    def _update(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)  # on the CPU, so that no read waits for a GPU
            state |= {name: torch.zeros_like(weight, dtype=torch.float32) for name in MOMENTS}
        state["step"] += 1
        step, (beta1, beta2), rate = float(state["step"]), group["betas"], float(group["lr"])
        tensors = (weight, weight.grad, *(state[name] for name in MOMENTS))
        slices = zip(*(torch.split(local(tensor).view(-1), SLICE) for tensor in tensors), strict=True)
        for part, gradient, mean, square in slices:
            gradient = gradient.float()
            # m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; w <- w - lr (weight_decay w + m' / (sqrt(v') + eps)).
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
            new = part.float() * (1 - rate * group["weight_decay"])
            part.copy_(rounded(new.addcdiv_(mean, scale, value=-rate / (1 - beta1**step)), part.dtype))


def rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Float32 values in ``dtype``: bfloat16 by stochastic rounding, others as they are.

    bfloat16 is the upper half of the bits of float32. A random number is added to the lower half, which carries over
    with the probability of the upper neighbour, and the lower half is cut off.
    """
    if dtype != torch.bfloat16:
        return values.to(dtype)
    noise = torch.randint(0, 2**16, values.shape, dtype=torch.int32, device=values.device)
    return (values.view(torch.int32) + noise).bitwise_and_(-(2**16)).view(torch.float32).to(torch.bfloat16)
