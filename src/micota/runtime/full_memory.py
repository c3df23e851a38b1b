"""What to change when the memory of a device is full."""

from __future__ import annotations

from micota.config import Config, TrainerConfig
from micota.errors import MachineError, is_full_memory, text_of
from micota.graph.node import AnyNode

OF_ENGINES = ["a smaller trainer.micro_batch_rows, trainer.pack_length, engine.batch_size or engine.memory_fraction"]


def explained(
    error: BaseException, config: Config, node: AnyNode, *, trains: bool, rank: int | None = None
) -> BaseException:
    """An exception about full memory as an error of the user; any other exception as it is."""
    if not is_full_memory(error):
        return error
    return full_memory(text_of(error), node, ways(config.trainer) if trains else OF_ENGINES, rank)


def full_memory(text: str, node: AnyNode, helpful: list[str], rank: int | None = None) -> MachineError:
    """The error of a stage for which the memory is too small.

    Args:
        text: of the exception.
        helpful: changes of the config that save memory.
        rank: of the process, if it is one of several.
    """
    of_rank = "" if rank is None else f" of rank {rank}"
    return MachineError(
        f"{node.stage} {node.name}: the memory of the device{of_rank} is full ({text[:200]}); what helps: "
        + "; ".join(helpful)
    )


def ways(trainer: TrainerConfig) -> list[str]:
    """Changes that save memory in training, cheapest first."""
    rows = [f"trainer.micro_batch_rows={trainer.micro_batch_rows // 2}"] if trainer.micro_batch_rows > 1 else []
    full = ["trainer.activation_checkpointing=full"] if trainer.activation_checkpointing != "full" else []
    devices = [f"trainer=fsdp trainer.devices={2 * trainer.num_devices}"] if trainer.accelerator == "gpu" else []
    return [*rows, f"trainer.pack_length={max(1, trainer.pack_length // 2)}", *full, *devices]
