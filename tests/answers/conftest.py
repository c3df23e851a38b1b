from __future__ import annotations

from collections.abc import Iterator

import pytest

from micota.answers.grading import Graders


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    with Graders(num_workers=1, seconds=20.0) as opened:
        yield opened
