"""Words in answers: units, counted things, numbers in words. One table of each; every other word is unknown.

A unit is known or it is no unit: letters after a number are a product (``2abc``), words after it are another answer
("5 dozen", "5 thousandths").
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources


def word_set(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


# canonical name: its spellings. Plurals are found by rule.
_UNITS = """
m: metre meter 米 м
km: kilometre kilometer kms 千米 公里 км; cm: centimetre centimeter cms 厘米 см; mm: millimetre millimeter
nm: nanometer
um: micrometer; in: inch "; ft: foot feet '; yd: yard; mi: mile; ly: lightyear; au
g: gram gm gms 克 г; kg: kilogram kilo kgs 千克 公斤 кг; mg: milligram; ton: tonne; lb: pound lbs; oz: ounce
s: second sec secs 秒 с; ms: millisecond; min: minute mins 分钟 мин;
h: hour hr hrs 小时 ч; day: 天; week wk; month; year yr yrs; century; decade
L: litre liter l; mL: millilitre milliliter ml; gal: gallon gals; qt: quart; pt: pint; cup; tbsp: tablespoon; tsp:
teaspoon
cc; acre; hectare ha; bushel; barrel
mph; kmh: kph kmph; rpm; knot
N: newton; J: joule; kJ: kilojoule; cal: calorie; kcal: kilocalorie; W: watt; kW: kilowatt; kWh; V: volt; A: ampere amp
Pa: pascal; kPa; Hz: hertz; kHz; MHz; GHz; K: kelvin; mol; C: coulomb; ohm; F: farad; T: tesla; eV
bit; byte; KB; MB; GB
$: dollar usd buck; cent: ¢ c penny pennies; €: euro eur; £: gbp quid; ¥: yen yuan rmb cny jpy 元; ₹: rupee inr rs; ₽:
ruble rouble руб рублей
peso; franc; krona; won; shekel; nickel; dime; shilling; lira
%: percent pct percentage 百分; °: degree deg degs; rad: radian; °C: celsius; °F: fahrenheit
u: unit 个 只 本 条 张 次 种 块 枚 名 位 件 棵 支 人 個 冊 匹 歳; mol; point: pt pts; people: person persons
"""
_SHORT = frozenset("mgshLlNJWV")  # single letters: units only behind a space, or in a text command
_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())}
NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
# Parts of one: "two thirds", "three-fourths", "a half".
PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + plural: value
    for value, word in enumerate(["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], start=3)
    for plural in ("", "s")
}
BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
         "twelve": 12, "sixteen": 16, "binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}  # fmt: skip
AND, OR = ("and", "和", "与", "及", "&", "und", "et", "и"), ("or", "或", "或者", "U", "oder", "или")
# Words before a value that leave it as it is; "not", "more than", "at most" are none of them.
HARMLESS = word_set(
    """
    the a an answer answers final value values result results solution solutions total number numbers is are equals
    equal to exactly about approximately roughly therefore thus so hence we have get of sum only just simply it's
    its be maybe perhaps possibly
    option choice length width area volume perimeter distance cost price probability roots root
    """
)
# Short words that are no product of letters.
SHORT_WORDS = word_set(
    """
    is it if in of to on at by no not the and or for all any are was has had yes odd one two six ten day way new old
    per too but may can let its an as be do go he me my so up us we you who how out off now him her his she our than
    then that this ago air also ask ate bad bag bed big bit box buy cat cow cut did dog dry due each earn eat egg
    end etc ever far few fit fix fly fun gas get give go gone got had hat hen hit hot ice job key kid law led left
    less let lie lot low made man map may men met mix nor nut off oil only onto ours out own paid pay pen pet pie
    pig put ran red rid row run sad same saw say sea see sell set sit sky son soon sum sun tea ten tie tip top try
    es los las une und ist sie der die aka das que por con les des est son
    use via wait want war way wet who whom why win won work yet
    """
)
_IRREGULAR = word_set(
    """
    people children men women fish sheep mice teeth geese grandchildren jellyfish goldfish dice deer oxen bacteria
    cattle lego salmon shrimp staff vertices indices matrices polyhedra
    """
)
# Words between a number and the thing counted that change neither.
ADJECTIVES = word_set(
    """
    distinct different possible right total whole positive such ordered unordered integer more
    """
)
# Words behind a unit that change nothing: "10 years old".
TRAILING = word_set("old long tall high wide deep away apart remaining altogether")
POWERS = {"square": 2, "sq": 2, "sq.": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def _table() -> dict[str, str]:
    spellings: dict[str, str] = {}
    for entry in _UNITS.replace("\n", ";").split(";"):
        name, _, others = entry.strip().partition(":")
        for spelling in (*name.split(), *others.split()):
            spellings.setdefault(spelling, name.split()[0] if name else spelling)
    return spellings


UNITS = _table()
NOUNS = frozenset(resources.files("micota.grading.reading").joinpath("nouns.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=4096)
def unit_of(word: str, extra: frozenset[str] = frozenset()) -> str | None:
    """The canonical name of a unit or counted thing, or None where the word is neither. ``extra`` are words of the
    problem's own question ("how many daps")."""
    bare = word.strip(".").strip("-")
    for form in dict.fromkeys((bare, bare.lower())):
        if form in UNITS:
            return UNITS[form]
    low = bare.lower()
    for form in _singulars(low):
        if len(form) > 2 and form in UNITS:
            return UNITS[form]
    if low in _IRREGULAR:
        return low
    if low.endswith("s"):
        for form in _singulars(low):
            if form in NOUNS or form in extra:
                return form
    return low if low in extra else None


def _singulars(word: str) -> list[str]:
    if not word.endswith("s") or word.endswith("ss"):
        return []
    forms = [word[:-1]]
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    if word.endswith("ves"):
        forms += [word[:-3] + "f", word[:-3] + "fe"]
    return forms


def is_short_unit(word: str) -> bool:
    """Whether this is a letter that is a unit only where it stands apart from a number."""
    return len(word) == 1 and word in _SHORT


def part_of_one(word: str) -> int | None:
    """The denominator that a word stands for: 3 of "thirds"."""
    return PARTS.get(word.lower())


def number_word(word: str) -> int | None:
    """The value of a number below 100 in words, hyphens included: "twenty-one" is 21."""
    low = word.lower()
    if low in NUMBER_WORDS:
        return NUMBER_WORDS[low]
    tens, _, ones = low.partition("-")
    if ones and NUMBER_WORDS.get(tens, 0) >= 20 and 0 < NUMBER_WORDS.get(ones, 0) < 10:
        return NUMBER_WORDS[tens] + NUMBER_WORDS[ones]
    return None


_HOW_MANY = re.compile(
    r"\bhow\s+many\s+(?:more\s+|fewer\s+|different\s+|distinct\s+|total\s+|whole\s+)?([a-z]+)(?:\s+([a-z]+))?",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def counted_things(problem: str) -> frozenset[str]:
    """The things that a problem wants counted: ``daps`` and ``dap`` of "how many daps"."""
    things: set[str] = set()
    for match in _HOW_MANY.finditer(problem):
        for word in match.groups():
            if word and len(word) > 2 and word.lower() not in SHORT_WORDS:
                things |= {word.lower(), *_singulars(word.lower())}
    return frozenset(things)
