"""Every number can be traced to source models, with descriptions and the commands that make each step."""

import shutil

import pytest

from micota.artifacts.store import Store
from micota.config import Call
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of
from micota.report.collect import CaseReport
from micota.report.lineage import Steps, trace

Finished = tuple[Store, CaseReport]
OVERRIDES = ["experiment=tiny", "seed=7"]


@pytest.fixture
def root(finished: Finished) -> AnyNode:
    return finished[1].by_seed[1].recipes[-1].scores["easy"]


def traced(store: Store, node: AnyNode) -> Steps:
    steps: Steps = {}
    trace(steps, store, [node], Call(overrides=OVERRIDES), seed=1)
    return steps


def test_the_lineage_of_a_number_lists_every_artifact_once(finished: Finished, root: AnyNode) -> None:
    steps = traced(finished[0], root)
    assert set(steps) == {node.folder for node in root.walk()}
    assert all(child in steps for step in steps.values() for child in step["inputs"].values())
    sources = [step for step in steps.values() if step["label"] == "model"]
    assert {step["name"] for step in sources} == {"tiny_student", "tiny_ta", "tiny_teacher"}
    assert all(step["description"].startswith("bundled:") for step in sources)


def test_commands_make_the_artifact_of_that_seed(finished: Finished, root: AnyNode) -> None:
    steps = traced(finished[0], root)
    assert steps[root.folder]["command"] == "micota evaluate data=micota experiment=tiny seed=1"
    merge = next(step for step in steps.values() if step["label"] == "merge")
    assert merge["command"].startswith("micota merge") and merge["command"].endswith("seed=1")


def test_a_step_shows_how_it_was_made(finished: Finished, root: AnyNode) -> None:
    store = finished[0]
    manifest = store.manifest(root)
    assert manifest is not None
    step = traced(store, root)[root.folder]
    assert step["key"] == root.key and step["settings"]["grader"] == "typed"
    assert step["manifest"]["versions"] == manifest.versions
    assert step["manifest"]["commit"] == manifest.commit


def test_what_is_no_longer_stored_is_described_by_its_settings(
    finished: Finished, root: AnyNode, tmp_path: object
) -> None:
    store = finished[0]
    elsewhere = Store(f"{tmp_path}/artifacts")
    shutil.copytree(store.path(root), elsewhere.path(root))
    (elsewhere.path(root) / "scores.jsonl").write_text("cut")
    steps = traced(elsewhere, root)
    assert {step["manifest"] for step in steps.values()} == {None}
    descriptions = {step["label"]: step["description"] for step in steps.values()}
    assert descriptions["scores"] == "graded by typed"
    assert descriptions["merge"] == "dare_ties, density 0.5, weight 0.5"
    assert descriptions["training"].startswith("full fine-tuning, learning rate 0.00")


def test_every_stage_has_words(finished: Finished) -> None:
    store, case = finished
    for target in case.by_seed[0].targets():
        for node in target.walk():
            assert stage_of(node).describe(node, {}) != node.stage
            manifest = None if node.is_source else store.manifest(node)
            if manifest is not None:
                assert stage_of(node).describe(node, {**manifest.counts, **manifest.metrics})
