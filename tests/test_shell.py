"""Words that are printed for a shell are the same words there, and values that are quoted for Hydra the same values."""

from __future__ import annotations

import random
import subprocess

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from micota.config.quoting import plain_value, quoted_value
from micota.errors import shown
from micota.shell import shell_line

ODD = [
    "a  b", "{x}", "it's", '"q"', "a\\", "a\\'b", "${x}", "\\${x}", "$HOME", "`ls`", "é 日 💩", "a=b,c", "[1]", "a\tb",
    "a\nb\r", "!x", "#", "~", "%", "\\\\${y}", "'", "''", "\\", "a\u202eb", "x'${y}\\'", "$'x'", "-rf", "*", "\x1b[31m",
]  # fmt: skip


def values() -> list[str]:
    chance = random.Random(0)
    signs = "ab '\"\\${},[]()=~!#\t\né`*?;&|<>%"
    return [*ODD, *("".join(chance.choices(signs, k=chance.randint(1, 8))) for _ in range(150))]


def test_a_printed_line_has_the_same_words_in_a_shell() -> None:
    words = [*values(), *(f"key={quoted_value(value)}" for value in values()), ""]
    line = shell_line(words)
    assert shown(line) == line, "as an error prints it"
    typed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert typed.stdout.decode().split("\0")[:-1] == words


def test_a_quoted_value_is_the_same_value() -> None:
    parser = OverridesParser.create()
    for value in values():
        typed = quoted_value(value)
        found = OmegaConf.create({"key": parser.parse_override(f"key={typed}").value()})
        assert found.key == value == plain_value(typed)
    assert plain_value("plain") == "plain" and plain_value("'open") == "open" and plain_value('"a" b') == 'a" b'


def test_a_name_that_is_no_utf_8_is_the_same_bytes() -> None:
    line = shell_line(["printf", "%s", "a\udcffb"])
    typed = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert typed.stdout == b"a\xffb"
