r"""Long chains of thought in the style of reasoning models, built from a seed: tests of extraction.

Each text has 5,000 to 60,000 characters of attempts, checks and corrections with formulas and boxes on the way, and one
of the endings of ``ENDINGS``. What an ending should give stands beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

OPENINGS = (
    "Okay, so I need to work this out carefully. ", "Alright, let me read the problem again. ",
    "Hmm, let me start by writing down what is given. ", "First, I will set up some notation. ",
)  # fmt: skip
THOUGHTS = (
    "Let's denote the unknown by $x$, so that $x + {a} = {b}$ and hence $x = {c}$. ",
    "If I multiply both sides by {a}, I get ${a} \\cdot {b} = {p}$, which looks too large. ",
    "Wait, that can't be right, because {a} is not a divisor of {p}. Let me check that again. ",
    "So the sum of the first {a} terms would be $\\frac{{{a}({a}+1)}}{{2}}$, and for {b} terms it is bigger. ",
    "Alternatively, I could use the formula $\\binom{{{b}}}{{2}} = \\frac{{{b}({b}-1)}}{{2}}$ here. ",
    "Let me test a small case: for $n = {a}$ we would have {p} ways, and for $n = {b}$ there are even more. ",
    "That gives \\[ {a}x^2 - {b}x + {c} = 0, \\] whose discriminant is ${b}^2 - 4 \\cdot {a} \\cdot {c}$. ",
    "Hmm, but maybe I mixed up the two cases. In case {a}, the remainder is {c}; in case 2, it is 0. ",
    "Actually, hold on. The problem says at least {a}, not exactly {a}. So I have to redo step {c}. ",
    "By symmetry the probability is $\\frac{{{a}}}{{{b}}}$, unless the order matters; then it is half of that. ",
    "I remember that $\\sqrt{{{p}}}$ is a bit more than {c}, so the bound $x \\le {p}$ is far from sharp. ",
    "The set $\\{{ {a}, {b}, {c} \\}}$ has $2^3 = 8$ subsets, but only some of them qualify. ",
    "\n\nLet me write this as a table:\n\n| n | value |\n|---|---|\n| {a} | {p} |\n| {b} | {c} |\n\n",
    "\n\n**Step {a}:** substitute $x = {b}$ and simplify.\n\n1. ${a} + {b} = {c}$\n2. so ${p} > {c}$.\n\n",
    "Someone could claim that the answer is {w}, but that ignores the second condition. ",
    "If that were all, I would write $\\boxed{{{w}}}$. But wait, I still have to subtract the overlap. ",
    "So at first sight we'd get \\boxed{{{w}}}. Hmm, no, wrong: I counted the corner twice. ",
    "The format asks for \\boxed{{}} around the result, so I should remember to put it there. ",
    "Let me double check with mod {a}: $ {p} \\equiv {c} \\pmod{{{a}}} $, fine. ",
)  # fmt: skip


class LongText(NamedTuple):
    """A completion with its gold; ``is_right`` is whether it ends in the gold, ``outcome`` what it counts as."""

    gold: str
    completion: str
    outcome: str
    is_finished: bool
    style: str


Ending = Callable[[str, str, str], str]  # thinking, gold, a wrong answer -> completion
# Style, gold answers, whether it finished, outcome, how the text ends.
ENDINGS: tuple[tuple[str, tuple[str, ...], bool, str, Ending], ...] = (
    ("box behind the thought", ("17", r"\frac{3}{8}", "(2,5)", r"[0,3)"), True, "correct",
     lambda t, g, w: f"<think>\n{t}</think>\n\nCombine both cases.\n\n**Final Answer**\n\\[ \\boxed{{{g}}} \\]"),
    ("sentence behind the thought", ("23", "144"), True, "correct",
     lambda t, g, w: f"<think>\n{t}So \\boxed{{{w}}}? Let me see... no.\n</think>\n\nThe answer is **{g}**."),
    ("formula behind the thought", (r"2\sqrt{7}", "x^2-4"), True, "correct",
     lambda t, g, w: f"<think>\n{t}</think>\n\nPutting both parts together, the value equals ${g}$."),
    ("JSON behind the thought", ("96", "7"), True, "correct",
     lambda t, g, w: f'<think>\n{t}Maybe \\boxed{{{w}}}.\n</think>\n```json\n{{"answer": "{g}"}}\n```'),
    ("wrong answer behind the thought", ("31", "58"), True, "incorrect",
     lambda t, g, w: f"<think>\n{t}Perhaps \\boxed{{{g}}}.\n</think>\n\nTherefore the final answer is \\boxed{{{w}}}."),
    ("nothing behind the thought", ("64", r"\frac{5}{9}"), True, "correct",
     lambda t, g, w: f"<think>\n{t}Yes, this is it: \\boxed{{{g}}}\n</think>\n\n"),
    ("last of several boxes", ("12", r"-\frac{1}{2}", "4,9"), True, "correct",
     lambda t, g, w: f"{t}So we get \\boxed{{{w}}}. Wait, one case was missed.\n\n{t[:800]}\n\nHence \\boxed{{{g}}}."),
    ("a box taken back", ("45", "90"), True, "correct",
     lambda t, g, w: f"{t}\\boxed{{{w}}} is wrong, since it ignores zero. Counting again gives \\boxed{{{g}}}"),
    ("boxes joined to a list", ("3,8", "-2,6"), True, "correct",
     lambda t, g, w: f"{t}\n\nSo $x = \\boxed{{{g.split(',')[0]}}}$ or $x = \\boxed{{{g.split(',')[1]}}}$."),
    ("two different boxes", ("5", "11"), True, "ambiguous",
     lambda t, g, w: f"{t}\n\nSo the value is $\\boxed{{{g}}}$ or $\\boxed{{{w}}}$."),
    ("the same box twice", ("77", r"\sqrt{3}"), True, "correct",
     lambda t, g, w: f"{t}\\boxed{{{g}}}\n\nI have checked all of it again. The final answer is \\boxed{{{g}}}."),
    ("option letter", ("B", "D"), True, "correct",
     lambda t, g, w: f"<think>\n{t}</think>\n\nThe value is $\\boxed{{14}}$. Therefore, the correct choice is ({g})."),
    ("hash marks", ("250", "1,450"), True, "correct", lambda t, g, w: f"{t}\n#### {g}"),
    ("no mark at all", ("350", "18"), True, "correct",
     lambda t, g, w: f"{t.split(chr(10))[0][:3000]}{t}\n\nAdding both parts gives a total of {g} apples."),
    ("cut off in the thought", ("13", "29"), False, "truncated", lambda t, g, w: f"<think>\n{unboxed(t)}So far {g}"),
    ("cut off in a formula", ("13", "29"), False, "truncated", lambda t, g, w: f"{unboxed(t)}and then $x = {g}"),
    ("cut off in a box", ("13", "29"), False, "truncated",
     lambda t, g, w: f"{t}so \\boxed{{{g}}} is wrong. \\boxed{{{g}"),
    ("cut off behind a box", ("13", "29"), False, "correct",
     lambda t, g, w: f"{unboxed(t)}Thus \\boxed{{{g}}}. Let me verify this once more. {unboxed(t)[:900]}"),
    ("cut off in a loop", ("16", "81"), False, "truncated",
     lambda t, g, w: unboxed(t) + f"= {g} + {w} - 128 " * 200),
    ("gives up", ("16", "81"), True, "no_answer",
     lambda t, g, w: f"<think>\n{unboxed(t)}</think>\n\nI could not solve this problem, sorry. See problem {g}."),
)  # fmt: skip


def unboxed(text: str) -> str:
    """The text without sentences that have a box or name an answer."""
    return "".join(part + ". " for part in text.split(". ") if "boxed" not in part and "answer" not in part)


def thinking(chance: random.Random, length: int, wrong: str) -> str:
    """About ``length`` characters of thoughts; ``wrong`` is the answer of the boxes on the way."""
    parts = [chance.choice(OPENINGS)]
    size = 0
    while size < length:
        a, b, c = (chance.randrange(2, 60) for _ in range(3))
        parts.append(chance.choice(THOUGHTS).format(a=a, b=b, c=c, p=a * b, w=wrong))
        if chance.random() < 0.15:
            parts.append("\n\n")
        size += len(parts[-1]) if parts[-1].strip() else 0
    return "".join(parts)


def long_texts(seed: int = 0) -> Iterator[LongText]:
    """At least 60 texts, the same for the same seed."""
    chance = random.Random(seed)
    for style, golds, is_finished, outcome, ending in ENDINGS:
        for index in range(4):
            gold = golds[index % len(golds)]
            wrong = str(chance.randrange(100, 900))
            text = ending(thinking(chance, round(10 ** chance.uniform(3.75, 4.7)), wrong), gold, wrong)
            yield LongText(gold, text, outcome, is_finished, style)
