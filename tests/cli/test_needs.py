"""What experiments need at several seeds: each is composed once, and needs what it needs at each seed alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from micota.cli import needs
from micota.errors import ConfigError

TINY = ["experiment=tiny", "compare.recipes=[strong]", "compare.measures=[scores]", "compare.merge_weights=[]"]


def test_seeds_are_composed_once_and_need_what_each_needs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[list[str]] = []
    original = needs.prepared
    monkeypatch.setattr(needs, "prepared", lambda chosen, *rest: composed.append(chosen) or original(chosen, *rest))
    here = [*TINY, f"artifacts={tmp_path}"]
    together = needs.needs_of([*here, "seed=0,7"], None)
    assert len(composed) == 1
    apart = [set(needs.needs_of([*here, f"seed={seed}"], None)["tiny"]) for seed in (0, 7)]
    assert set(together["tiny"]) == set().union(*apart) and apart[0] != apart[1]


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "99999999999999", "[1]"])
def test_a_wrong_seed_among_right_ones_is_refused(seed: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^seed=.*accepted: an integer of at least 0"):
        needs.needs_of([*TINY, f"artifacts={tmp_path}", f"seed=0,{seed}"], None)
