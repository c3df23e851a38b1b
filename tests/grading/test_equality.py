r"""What counts as the same answer, and what does not: pairs of a gold and a prediction."""

from __future__ import annotations

import pytest

from micota.grading.equality.compare import are_plainly_equal
from micota.grading.graders import Graders
from micota.records import Problem

SAME = r"""
18 | 18.00
18 | \$18.00
18 | $18
18 | 18 dollars
18 | 18 \text{ dollars}
2400 | 2,400 meters
5000000 | 5 million
3/4 | 0.75
5 | x = 5
5 | 2+3=5
5 | a+b = 5
0 | x = 0
5 | 5 \text{ or so}
75 | 75\%
75\% | 75
16 | **16**
0.5 | \frac{1}{2}
1/3 | \frac13
4:30 \text{ p.m.} | 4:30 PM
\text{4:30 p.m.} | 4:30
\frac{\sqrt{21}}{5} | \sqrt{21}/5
\frac{\sqrt{21}}{5} | 0.2\sqrt{21}
1+2\sqrt{3} | 1+\sqrt{12}
1 \pm \sqrt{19} | 1+\sqrt{19}, 1-\sqrt{19}
1,-2 | x=-2 \text{ or } x=1
1,-2 | \{-2, 1\}
2, 3, 4 | 2, 3, and 4
-2,-2 | -2,-2
(1,1), (3,2) | (3,2),(1,1)
52_8 | 52
52_8 | 52_{8}
90^\circ | 90 degrees
10,\!080 | 10080
11,\! 111,\! 111,\! 100 | 11111111100
\text{(C)} | C
\text{(C)} | (C) \text{ all of them}
\text{east} | \text{East}
864 \mbox{ inches}^2 | 864\text{ square inches}
15\mbox{ cm}^2 | 15 cm^2
1\frac{4}{5} | 1.8
137 \frac{1}{2} | 137.5
(3,4] | x \in (3,4]
(-\infty, 2) \cup (3, \infty) | (3,\infty)\cup(-\infty,2)
(2,\infty) | x>2
x \in [-2,7] | -2 \le x \le 7
y = 2x + 3 | 3+2x
5x - 7y + 11z + 4 = 0 | -5x+7y-11z-4=0
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix} | \begin{bmatrix} -\frac13 \\ \frac23 \\ \frac53 \end{bmatrix}
\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix} | \begin{pmatrix}-1&0\\0&-1\end{pmatrix}
\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix} | (-2,-14,-7)
(6,31,-1) | (x,y,z)=(6,31,-1)
\cot x | \frac{\cos x}{\sin x}
6 - 5i | -5i+6
\frac{1}{2 n+2} | \frac{1}{2(n+1)}
2^{1009} | 2 \cdot 2^{1008}
\binom{2n}{n} | \frac{(2n)!}{n!n!}
f(x)=2 x | 2x
M=2^{N-2}+1 | 2^{N-2}+1
\left\lfloor\log _{2} n\right\rfloor+1 | \lfloor \log_2 n \rfloor + 1
\lceil n / 2\rceil+1 | 1+\lceil \frac{n}{2}\rceil
k \geqslant 2 | k \ge 2
2021 \cdot 505 \cdot 337 | 343943885
"""

DIFFERENT = r"""
18 | 81
18 | 18x
18 | 1.8
100 | 10
-7 | 7
1,-2 | 1
1,-2 | 1,2
-2,-2 | -2
2, 3, 4 | 2, 3
3, 5, 7 | 3, 5, 8
(1,1), (3,2) | (1,1), (2,3)
(3,4] | [3,4]
(3,4] | (3,4)
(-2,1) | [-2,1]
(6,31,-1) | (31,6,-1)
x \in [-2,7] | -2 < x < 7
(2,\infty) | x \ge 2
\text{(C)} | D
\text{east} | west
75\% | 0.75
0.75 | 75\%
1/3 | 0.333
1/3 | 0.33333333
\sqrt{2} | 1.41421356
\pi | 3.14159265
52_8 | 52_{10}
52_8 | 42
52 | 52_8
2x+3 | 2y+3
x^3+3x-6 | x^3+3x+6
5 | x=5 \text{ or } x=6
6 | x=5 \text{ or } x=6
\text{(A)} | (A) and (B)
A | A and B
5 | 5,6
5 | \text{five thousand}
5 | 5 million
2^{1009} | 2^{1010}
\frac{100!}{2^{50}} | \frac{100!}{2^{49}}
f(x)=x+1 | f(x)=x-1
y = 2x + 3 | x = 2y+3
6-5i | 6+5i
\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix} | (-2,-14,7)
1 \pm \sqrt{19} | 1+\sqrt{19}
90^\circ | \frac{\pi}{2}
12 | 12\pi
\frac{a b}{2} | \frac{a+b}{2}
0 | \emptyset
(a+5)(b+2) | ab+2a+5b+10
0 | 5x - 11y + z - 17 = 0
\cot x | \tan x
"""


def pairs(text: str) -> list[tuple[str, str]]:
    return [tuple(line.split(" | ")) for line in text.strip().splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize(("text", "expected"), [(SAME, True), (DIFFERENT, False)], ids=["same", "different"])
def test_pairs(graders: Graders, text: str, expected: bool) -> None:
    rows = pairs(text)
    verdicts = graders.typed([(Problem(id="", problem="", answer=gold), answer) for gold, answer in rows])
    if not expected:
        assert [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct is True] == []
        return
    assert [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.correct is not expected] == []


@pytest.mark.parametrize(("gold", "kind", "tolerance", "unit", "prediction", "expected"), [
    ("204", "integer", None, None, "204.0", True), ("204", "integer", None, None, "0204", True),
    ("204", "integer", None, None, r"\sqrt{41616}", False), ("204", "integer", None, None, "204.5", False),
    ("1.5", "number", "0.1", None, "1.45", True), ("1.5", "number", "0.1", None, "1.7", False),
    ("2.236", "number", "1e-3", None, r"\sqrt{5}", True), ("2.2", "number", "1e-3", None, r"\sqrt{5}", False),
    ("6", "number", None, r"\mathrm{km}/\mathrm{h}", r"6 \text{km}/\text{h}", True),
    ("2,1", "list", None, None, "1, 2", True), ("(1,2)", "tuple", None, None, "1,2", False),
])  # fmt: skip
def test_declared_types(
    graders: Graders, gold: str, kind: str, tolerance: str | None, unit: str | None, prediction: str, expected: bool
) -> None:
    problem = Problem(id="", problem="", answer=gold, answer_type=kind, tolerance=tolerance, unit=unit)
    assert graders.typed([(problem, prediction)])[0].correct is expected


def test_plain_equality_needs_no_worker() -> None:
    assert are_plainly_equal("0.5", r"\frac12") and are_plainly_equal("{", "{ ")
    assert are_plainly_equal(r"\sqrt{8}", r"2\sqrt{2}") and not are_plainly_equal(r"\int_0^1 x dx", r"\frac{1}{2}")
