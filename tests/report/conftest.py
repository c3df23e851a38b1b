"""A finished case over two seeds, shared by the tests of a worker; they only read it."""

from __future__ import annotations

import pytest
from synthetic_store import case_report

from micota.artifacts.store import Store
from micota.config import Call
from micota.report.collect import CaseReport
from micota.report.page import render_page

Finished = tuple[Store, CaseReport]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    store = Store(tmp_path_factory.mktemp("world") / "artifacts")
    return store, case_report(store, seeds=(0, 1))


@pytest.fixture(scope="session")
def html(finished: Finished) -> str:
    store, case = finished
    return render_page("tiny", [case], store, seed=0, call=Call(overrides=["experiment=tiny"]))
