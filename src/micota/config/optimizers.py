"""The table of optimisers: kinds of AdamW that differ in how they store their moments."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class OptimizerKind:
    """An optimiser.

    Args:
        name: as in ``sft.optimizer``.
        opens: the class, in ``torch.optim`` or in ``bitsandbytes.optim``.
        package: the package that it needs beside PyTorch; None for none. It also names the extra of micota.
        moment_bytes: bytes of one of the two moments of a weight on the device.
        is_paged: whether its moments move to the machine's memory where the GPU is full.
    """

    name: str
    opens: str
    package: str | None = None
    moment_bytes: int = 4
    is_paged: bool = False


OPTIMIZERS: Registry[OptimizerKind] = Registry("optimiser")
BITSANDBYTES = "bitsandbytes"

OPTIMIZERS.add(OptimizerKind(name="adamw", opens="AdamW"))
OPTIMIZERS.add(OptimizerKind(name="adamw_8bit", opens="AdamW8bit", package=BITSANDBYTES, moment_bytes=1))
OPTIMIZERS.add(OptimizerKind(name="paged_adamw", opens="PagedAdamW", package=BITSANDBYTES, is_paged=True))
OPTIMIZERS.add(
    OptimizerKind(
        name="paged_adamw_8bit",
        opens="PagedAdamW8bit",
        package=BITSANDBYTES,
        moment_bytes=1,
        is_paged=True,
    )
)
