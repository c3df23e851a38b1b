"""Keys and values that were called otherwise in the release before: a mistake with one answers with the new name."""

from __future__ import annotations

from typing import Any

KEYS = {
    "probe": "sweep",
    "sweep": "merge_sweep",  # the settings; sweep alone is a switch of merge
    "held_out": "decontaminate_against",
    "data.author": "data.generator",
    "ta_data.author": "ta_data.generator",
    "compare.arms": "compare.recipes",
    "trainer.pack_tokens": "trainer.pack_length",
    "trainer.row_batch": "trainer.micro_batch_rows",
    "evaluation.answer_s": "evaluation.timeout_s",
    "select.best_of": "select.keep_sample",
}
SWEEP = "sweep, as a map of settings, is now called merge_sweep; use merge_sweep.KEY=VALUE"
VALUES = {
    ("select.decontaminate", "restated"): "near_duplicate",
    ("compare.measures", "probe"): "merge_sweep",
}


def renamed_override(override: str) -> str | None:
    """One line for an override of a key or group (``bench@held_out=[gsm8k]``) that has another name now; else None."""
    key, _, value = override.partition("=")
    return renamed_key(key.lstrip("+~"), value)


def renamed_key(key: str, value: str = "") -> str | None:
    """One line for a dotted key that has another name now; else None."""
    group, at, place = key.rpartition("@")
    old = next((name for name in _prefixes(place) if name in KEYS), None)
    if old is None or place == "sweep":
        return None
    rest = place.removeprefix(old)
    name = KEYS[old] + rest
    # The map of settings that probe once was has had two names since.
    name = f"{KEYS['sweep']}{rest}" if rest and name.startswith("sweep.") else name
    new = f"{group}{at}{name}"
    return f"{key} is now called {new}; use {new}={value or 'VALUE'}"


def renamed_value(key: str, value: Any) -> str | None:
    """One line for a value, or a list with one, that has another name now; else None."""
    for word in value if isinstance(value, list) else [value]:
        new = VALUES.get((key, word)) if isinstance(word, str) else None
        if new is not None:
            now = [new if item == word else item for item in value] if isinstance(value, list) else new
            use = "[" + ",".join(map(str, now)) + "]" if isinstance(now, list) else now
            return f"{key}={value!r}: {word} is now called {new}; use {key}={use}"
    return None


def _prefixes(key: str) -> list[str]:
    """A dotted key and those it is below, the longest first."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
