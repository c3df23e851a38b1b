from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from micota.artifacts.store import Store
from micota.cli.report import SEEDS, finished_seeds
from micota.errors import ArtifactError


@pytest.mark.parametrize("text", ["", "[0, 1", "{}", "3", '["0"]', "[true]", "[0.5]", "\ufffd"])
def test_a_damaged_list_of_seeds_is_one_error(composed: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / SEEDS).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"{SEEDS} is damaged \(.*delete it and run the report again"):
        finished_seeds(composed("report", "experiment=tiny"), [], Store(str(tmp_path)), tmp_path)
