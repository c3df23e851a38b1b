"""The table of engines; the entries are in micota.engines."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """A way to run a model for generation.

    Args:
        name: as in ``engine.name``.
        opens: ``module:class`` of an ``Engine``, made of an ``EngineConfig``, a folder or hub id, and a revision; not
            imported before it is used. The class of an engine that takes weights is passed whether it will get some.
        settings: the fields of ``engine`` that this engine has and not every engine has.
        needs: the setting without which it cannot start.
        numerics: the engine that it runs and whose numbers it gives; None for itself.
        takes_weights: whether it is a ``WeightLoader`` on one device.
        batch_size: rows in one batch where ``engine.batch_size`` is null.
    """

    name: str
    opens: str
    settings: tuple[str, ...] = ()
    needs: str | None = None
    numerics: str | None = None
    takes_weights: bool = False
    batch_size: int = 64


ENGINES: Registry[EngineKind] = Registry("engine", home="micota.engines")
