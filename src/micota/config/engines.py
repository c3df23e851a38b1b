"""The table of engines; the entries stand in micota.engines."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """A way to run a model for generation.

    Args:
        name: as in ``engine.name``.
        opens: ``module:class`` of an ``Engine``, made of an ``EngineConfig``, a folder or hub id, and a revision; not
            imported before it is used. One that takes weights is passed whether it will have to.
        settings: the fields of ``engine`` that not every engine has, and this one has.
        needs: that of them without which it cannot start.
        numerics: the engine whose numbers it gives, where it is a way to run another one.
        takes_weights: it is a ``WeightLoader``, if on one device.
    """

    name: str
    opens: str
    settings: tuple[str, ...] = ()
    needs: str | None = None
    numerics: str | None = None
    takes_weights: bool = False


ENGINES: Registry[EngineKind] = Registry("engine", home="micota.engines")
