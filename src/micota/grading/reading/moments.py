"""Times of day and dates."""

from __future__ import annotations

import re

_HALF = r"([ap])\.?\s*m\b\.?"
CLOCK = re.compile(
    rf"^([01]?\d|2[0-4])\s*(?::|\.(?=\d\d\s*[ap]))\s*([0-5]\d)(?:\s*:\s*(\d\d))?\s*(?:{_HALF})?$|^(\d{{1,2}})\s*{_HALF}$",
    re.IGNORECASE,
)
LAST_CLOCK = re.compile(
    rf"(?<![\d:.])\d{{1,2}}\s?:\s?\d\d(?:\s?{_HALF})?|(?<![\d:.])\d{{1,2}}\s?{_HALF}", re.IGNORECASE
)
_MONTHS = """
    january february march april may june july august september october november december
""".split()  # noqa: SIM905
_MONTH = r"([A-Za-z]{3,9})\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s+(\d{4}))?"
_DATES = (
    re.compile(rf"(?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}", re.IGNORECASE),
    re.compile(rf"{_MONTH}\s+(?:the\s+)?{_DAY}{_YEAR}", re.IGNORECASE),
)


def same_moment(gold: str, answer: str) -> bool:
    """Whether two texts are the same time of day, or the same date."""
    return _same_time(gold, answer) or (_date(gold) is not None and _date(gold) == _date(answer))


def _same_time(gold: str, answer: str) -> bool:
    """4:30 p.m. is 4:30 pm, 16:30, and 4:30 where the answer names no half of the day."""
    times = [_time(text) for text in (gold, answer)]
    if times[0] is None or times[1] is None:
        return False
    if times[0][:3] == times[1][:3] and times[1][3] in (times[0][3], ""):
        return True
    is_of_24 = any(time is not None and (time[0] > 12 or time[0] == 0) and not time[3] for time in times)
    return is_of_24 and _of_24(*times[0]) == _of_24(*times[1])


def _time(text: str) -> tuple[int, int, int, str] | None:
    match = CLOCK.match(text.replace("\u202f", " ").strip(" ."))
    if match is None:
        return None
    if match[5]:
        return int(match[5]), 0, 0, match[6].lower()
    return int(match[1]), int(match[2]), int(match[3] or 0), (match[4] or "").lower()


def _of_24(hour: int, minute: int, second: int, half: str) -> tuple[int, int, int]:
    """A time of the clock of 24 hours."""
    return (hour % 12 + (12 if half == "p" else 0) if half else hour), minute, second


def _date(text: str) -> tuple[str, int, str] | None:
    """Month, day and year of a date in words; the year is "" where it has none."""
    bare = " ".join(text.replace("~", " ").split()).strip(" .")
    for index, pattern in enumerate(_DATES):
        match = pattern.fullmatch(bare)
        if match:
            day, month = (match[1], match[2]) if index == 0 else (match[2], match[1])
            names = [name for name in _MONTHS if name.startswith(month.lower())]
            return (names[0], int(day), match[3] or "") if len(names) == 1 and int(day) <= 31 else None
    return None
