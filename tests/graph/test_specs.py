"""What all kinds of data have in common is abstract: a new kind without its words is refused when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from micota.graph.specs import DATA_SPECS, DataSpec


def test_every_kind_of_data_says_how_its_rows_were_chosen() -> None:
    assert all("how" in vars(spec) for spec in DATA_SPECS)


def test_a_kind_that_does_not_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Silent(DataSpec):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?how"):
        Silent(**{item.name: None for item in fields(Silent)})  # type: ignore[arg-type]
