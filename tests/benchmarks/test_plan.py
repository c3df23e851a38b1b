"""The README's commands fit the machines beside them, at the price that is printed there."""

from __future__ import annotations

import plan
import pytest
from fork_server import ROOT
from test_readme import lines_of


def test_the_readme_prices_each_of_its_commands_with_real_models() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Real models")[2].partition("\n## ")[0]
    listed = [line for line in lines_of(ROOT / "README.md") if line in section and line.startswith("micota ")]
    listed = [line for line in listed if not line.startswith("micota doctor ")]  # which makes nothing
    assert [line.removesuffix(" plan=true") for line in listed] == [command for command, _ in plan.COMMANDS]


@pytest.mark.parametrize(("command", "hardware"), plan.COMMANDS)
def test_each_fits_and_costs_what_the_readme_says(command: str, hardware: str) -> None:
    costs, row = plan.priced(command, hardware)
    assert row.fits and (command.split()[1] != "pipeline" or not costs.problems), costs.problems
    assert plan.readme_row(command, hardware) in (ROOT / "README.md").read_text(encoding="utf-8")
