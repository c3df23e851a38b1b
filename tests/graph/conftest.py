"""What tests of the graph share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hydra
import pytest
from conftest import compose_quickly

from micota.cli import app
from micota.config import SCHEMAS, Call
from micota.config.roles import for_hydra

Of = Callable[..., Any]


@pytest.fixture(scope="module")
def of() -> Iterator[Of]:
    """Composes the config of a command, each once."""
    made: dict[tuple[str, ...], Any] = {}

    def compose(command: str, *overrides: str) -> Any:
        if (command, *overrides) not in made:
            composed, call = compose_quickly(command, for_hydra(overrides)), Call(overrides=list(overrides))
            made[command, *overrides] = app.prepare(composed, SCHEMAS[command], call)
        return made[command, *overrides]

    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        yield compose
