"""The rank of several that fails first: it leaves a record at once, and it ends, whatever it waits for.

A rank that fails takes time to end: it frees memory, and may wait for peers. Peers fail too when they lose it, and may
end before it does. So the order in which processes end does not tell which rank failed first; these records do.
"""

from __future__ import annotations

import faulthandler
import json
import os
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from micota.errors import is_full_memory, text_of

RECORDS = "MICOTA_FAILURES"  # the file for records, in the environment of ranks that a command of this package starts
PATIENCE_S = 10  # for the end of a rank that has failed, and for that of its peers


@dataclass(frozen=True)
class Failure:
    """The rank that failed, the traceback of its exception, and the text if that is about full memory."""

    rank: int
    text: str
    full_memory: str | None


def record(error: BaseException) -> None:
    """Append the failure of this rank to the file of records, and end the process if it has not ended in time."""
    if path := os.environ.get(RECORDS):
        lines = "".join(traceback.format_exception(error))
        failure = Failure(int(os.environ["RANK"]), lines, text_of(error) if is_full_memory(error) else None)
        entry = json.dumps(asdict(failure)) + "\n"
        # One write to the end of a file: records of several ranks do not mix.
        with open(path, "ab", buffering=0) as handle:
            handle.write(entry.encode())
    # A thread without Python's lock, since a rank may wait in a collective call that no peer joins.
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)


def recorded(path: Path) -> list[Failure]:
    """The records in a file, the first failure first."""
    if not path.exists():
        return []
    return [Failure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


class RecordFailure(Callback):
    """Records the exception that ends training on this rank, before Lightning frees what training held."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.world_size > 1:
            record(exception)
