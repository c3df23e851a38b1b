"""What the tests of faults share: one run that nothing disturbs."""

from __future__ import annotations

import os

import pytest
from hurt_runs import Undisturbed, undisturbed_run

from micota.artifacts.locks import EXCLUSIVE, LOCK, locked


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"  # for all workers of xdist
    with locked(folder / LOCK, EXCLUSIVE):
        return undisturbed_run(folder)
