from __future__ import annotations

from pathlib import Path

import families

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "families.md"


def test_families_that_are_not_run_again_keep_their_rows() -> None:
    content = PAGE.read_text(encoding="utf-8").partition(families.BEGIN)[2].partition(families.END)[0]
    rows = families.kept(content, [])
    assert [row["family"] for row in rows] == [*families.FAMILIES]
    assert families.table(rows) == content.strip()
    assert "gemma-2" not in [row["family"] for row in families.kept(content, ["gemma-2", "qwq"])]


def test_files_in_a_folder_of_the_name_of_a_family_win(tmp_path: Path) -> None:
    for place in ("mistral", "relative"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tokenizer.json").touch()
    assert families.published("mistral", "tokenizer.json", tmp_path, "relative") == tmp_path / "mistral/tokenizer.json"
    assert families.published("granite", "tokenizer.json", tmp_path, "relative") == tmp_path / "relative/tokenizer.json"
    assert families.published("mistral", "chat_template.jinja", tmp_path) is None
