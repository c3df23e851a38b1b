r"""The task of the toy setting: chains of single-digit arithmetic, and ways of writing their solutions.

A chain starts at a digit and applies `+`, `-` and `*` with operands 2 to 9, taking the value modulo 10 each
time. A solution is the same computation with more or fewer *habits*:

- `pre`: a first line that repeats the start;
- `ann`: each step is announced (`First *9: `);
- `dec`: each step shows the full result before its last digit (`9*9=81, so 1.`);
- checks: a step is verified by the inverse operation (` Wait, 9*9=81 ok.`), and once more (` Hmm, ...`);
- `fin`: all values are listed before the answer.

SHORT solutions have none of them, LONG ones nearly all: about four times the tokens for the same answer.
"""

import random
import re
from dataclasses import dataclass

NAMES = ("Mia", "Tom", "Ana", "Ben", "Zoe", "Sam", "Eva", "Leo")
ITEMS = ("coins", "books", "cards", "shells", "stamps", "pens", "beads", "nuts")
OPERATORS = "+-*"
MODULUS = 10
LEVELS: dict[str, tuple[int, int]] = {"easy": (2, 3), "medium": (4, 5), "hard": (6, 8)}
"""Level -> smallest and largest number of steps."""

_PROBLEM = re.compile(r"(\w+) has (\d) (\w+):((?:[+*-]\d)+) mod 10\?")


@dataclass(frozen=True)
class Chain:
    """A start digit and the operations (`operator`, `operand`) applied to it from left to right."""

    start: int
    ops: tuple[tuple[str, int], ...]

    @property
    def values(self) -> list[int]:
        """The start and the value after each operation, each in 0..9: `len(ops) + 1` of them."""
        values = [self.start]
        for operator, operand in self.ops:
            values.append(_apply(operator, values[-1], operand) % MODULUS)
        return values


@dataclass(frozen=True)
class Question:
    """A chain as a word problem about the things of a person."""

    chain: Chain
    name: str
    item: str

    @property
    def problem(self) -> str:
        """The text of the user, without the newline that the chat template adds."""
        ops = "".join(f"{operator}{operand}" for operator, operand in self.chain.ops)
        return f"{self.name} has {self.chain.start} {self.item}:{ops} mod {MODULUS}?"

    @property
    def answer(self) -> str:
        """The last value of the chain: one digit."""
        return str(self.chain.values[-1])


@dataclass(frozen=True, kw_only=True)
class Habits:
    """The habits of one solution; `num_checks` holds 0, 1 or 2 for each step (empty: no checks)."""

    pre: bool = False
    ann: bool = False
    dec: bool = False
    num_checks: tuple[int, ...] = ()
    fin: bool = False


@dataclass(frozen=True, kw_only=True)
class HabitMix:
    """Probabilities with which the habits of each solution are sampled independently.

    `chk` is the probability that a solution checks at all, `chk_rates` the rates of which it then takes one
    as the probability of a check at a step, and `chk2` that of a second check after a check.
    """

    pre: float = 0.0
    ann: float = 0.0
    dec: float = 0.0
    chk: float = 0.0
    chk_rates: tuple[float, ...] = (1.0,)
    chk2: float = 0.0
    fin: float = 0.0


SHORT = HabitMix()
LONG = HabitMix(pre=1.0, ann=1.0, dec=1.0, chk=1.0, chk_rates=(0.7,), chk2=0.15, fin=0.8)


def sample_question(rng: random.Random, num_steps: int) -> Question:
    """Sample a word problem with a chain of `num_steps` operations."""
    start = rng.randrange(MODULUS)
    ops = tuple((rng.choice(OPERATORS), rng.randint(2, 9)) for _ in range(num_steps))
    return Question(Chain(start, ops), rng.choice(NAMES), rng.choice(ITEMS))


def parse_problem(problem: str) -> Question:
    """Parse the text of a problem; ValueError for any other text."""
    match = _PROBLEM.fullmatch(problem)
    if match is None:
        raise ValueError(f"not a problem of the toy setting: {problem!r}")
    name, start, item, ops = match.groups()
    pairs = tuple((operator, int(operand)) for operator, operand in zip(ops[::2], ops[1::2], strict=True))
    return Question(Chain(int(start), pairs), name, item)


def sample_habits(rng: random.Random, mix: HabitMix, num_steps: int) -> Habits:
    """Sample the habits of one solution of `num_steps` steps."""
    pre, ann, dec, chk = (rng.random() < p for p in (mix.pre, mix.ann, mix.dec, mix.chk))
    rate = rng.choice(mix.chk_rates) if chk else 0.0
    checks = ((rng.random() < rate, rng.random() < mix.chk2) for _ in range(num_steps))
    num_checks = tuple(first + (first and second) for first, second in checks)
    return Habits(pre=pre, ann=ann, dec=dec, num_checks=num_checks, fin=rng.random() < mix.fin)


def write_solution(question: Question, habits: Habits) -> str:
    r"""The solution with these habits; it ends in `\boxed{answer}` without a newline."""
    chain = question.chain
    lines = [f"Okay, let me think. {question.name} has {chain.start}."] if habits.pre else []
    values = chain.values
    num_checks = habits.num_checks or (0,) * len(chain.ops)
    for i, (operator, operand) in enumerate(chain.ops):
        order = "First" if i == 0 else "Finally" if i == len(chain.ops) - 1 else "Next"
        announced = f"{order} {operator}{operand}: " if habits.ann else ""
        step = _step(operator, values[i], operand, shown_in_full=habits.dec)
        lines.append(announced + step + _checks(operator, values[i], operand, num_checks[i]))
    if habits.fin:
        lines.append(f"Check again: {','.join(map(str, values))}.")
    lines.append(rf"\boxed{{{question.answer}}}")
    return "\n".join(lines)


def write_short(question: Question) -> str:
    """The solution without any habit: about 36 tokens on average over the levels."""
    return write_solution(question, Habits())


def write_long(question: Question, rng: random.Random) -> str:
    """A solution with the habits of the teacher, checks sampled at random: about 153 tokens on average."""
    return write_solution(question, sample_habits(rng, LONG, len(question.chain.ops)))


def _apply(operator: str, value: int, operand: int) -> int:
    return {"+": value + operand, "-": value - operand, "*": value * operand}[operator]


def _full(operator: str, value: int, operand: int) -> tuple[int, int]:
    """Left side and result in full: a minus that would fall below zero borrows ten (7-8 becomes 17-8=9)."""
    if operator == "-" and value < operand:
        value += MODULUS
    return value, _apply(operator, value, operand)


def _step(operator: str, value: int, operand: int, *, shown_in_full: bool) -> str:
    left, result = _full(operator, value, operand)
    digit = result % MODULUS
    if shown_in_full:
        return f"{left}{operator}{operand}={result}, so {digit}."
    return f"{value}{operator}{operand}={digit}."


def _checks(operator: str, value: int, operand: int, num_checks: int) -> str:
    left, result = _full(operator, value, operand)
    inverse = {
        "+": f"{result}-{operand}={left}",
        "-": f"{result}+{operand}={left}",
        "*": f"{operand}*{left}={result}",
    }[operator]
    texts = (f" Wait, {inverse} ok.", f" Hmm, {left}{operator}{operand}={result} ok.")
    return "".join(texts[:num_checks])
