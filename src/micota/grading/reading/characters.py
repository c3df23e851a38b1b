r"""Characters of a completion, made readable before anything is parsed.

A completion may hold control characters (``\frac`` written by broken JSON is a form feed and "rac"), characters without
width, full-width and other compatibility forms, and tokens that end a turn. Every step is linear in the length.
"""

from __future__ import annotations

import re
import unicodedata

# A JSON string with one backslash too few turns the start of a command into a control character.
_ESCAPED = {"\x07": "a", "\x08": "b", "\x0b": "v", "\x0c": "f"}
_ALWAYS = re.compile(r"[\x07\x08\x0b\x0c](?=[a-zA-Z])")
_TAB = re.compile(r"\t(?=(?:ext|extbf|extit|imes|heta|an|frac|riangle|o|au)\b|ext\{|frac[\d{])")
_RETURN = re.compile(r"\r(?=(?:ight|angle|floor|ceil|ho|brace|vert)\b)")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_PICTURES = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2700-\u27bf\u2b00-\u2bff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
END_OF_TURN = re.compile(
    r"<\|?(?:eoa|eos|eot|eot_id|eom_id|im_end|end|endoftext|end_of_text|end_of_turn|end_of_solution|end▁of▁sentence|eod|eoh)\|?>"
    r"|<｜end▁of▁sentence｜>|</s>|\[EOS\]|<pad>"
)

SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷": r"\div ", "∞": r"\infty ", "∪": r"\cup ", "⋃": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ",
    "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≅": r"\cong ", "≡": r"\equiv ", "±": r"\pm ",
    "∓": r"\mp ", "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "⁄": "/", "∕": "/", "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "∖": r"\setminus ", "→": r"\to ", "⇒": r"\Rightarrow ", "⟹": r"\Rightarrow ", "∧": r"\land ", "∨": r"\lor ",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ",
    "〉": r"\rangle ", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"', "，": ",",
    "∶": ":", "、": ",", "；": ";", "。": ".",
    "∠": r"\angle ", "△": r"\triangle ", "∆": r"\Delta ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
}  # fmt: skip
_LETTERS = "αβγδεζηθικλμνξοπρστυφχψωϕϵΓΔΘΛΞΠΣΦΨΩ"
_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon
    phi chi psi omega phi epsilon Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"""
_GREEK = dict(zip(_LETTERS, _NAMES.split(), strict=True))
SYMBOLS |= {letter: rf"\{name} " for letter, name in _GREEK.items()}
_SYMBOL = re.compile("[" + "".join(map(re.escape, SYMBOLS)) + "]")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ", "0123456789-+()ni")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₋₊ₐₑₙᵢⱼₖₘₓ", "0123456789-+aenijkmx")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₋₊ₐₑₙᵢⱼₖₘₓ]+")
_ROOT_SIGN = re.compile(r"([√∛∜])\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+(?:\.\d+)?|[a-zA-Z]))")
_ROOTS = {"√": r"\sqrt{", "∛": r"\sqrt[3]{", "∜": r"\sqrt[4]{"}
_VULGAR = re.compile("[¼½¾⅐-⅞↉]")
_BAR_ABOVE = re.compile("(\\d)[\u0304\u0305]")


def repaired(completion: str) -> str:
    r"""The completion with commands for the control characters that broken escapes left, and without characters that
    have no width. Length is not kept."""
    text = completion
    if not text.isprintable():  # most short texts are: the test is cheaper than the patterns
        text = _ALWAYS.sub(lambda match: "\\" + _ESCAPED[match[0]], text)
        text = _RETURN.sub(r"\\r", _TAB.sub(r"\\t", text))
    return text if text.isascii() else _INVISIBLE.sub("", text)


def readable(answer: str) -> str:
    """An answer in ASCII mathematics as far as possible: symbols as commands, powers as ``^{}``, NFKC for the rest."""
    text = _CONTROL.sub("", repaired(answer))
    if text.isascii():
        return text
    text = _PICTURES.sub("", text)
    text = _ROOT_SIGN.sub(
        lambda m: _ROOTS[m[1]] + next(group for group in m.groups()[1:] if group is not None) + "}", text
    )
    text = _SUPERSCRIPT.sub(lambda match: "^{" + match[0].translate(_RAISED) + "}", text)
    text = _SUBSCRIPT.sub(lambda match: "_{" + match[0].translate(_LOWERED) + "}", text)
    text = _VULGAR.sub(_vulgar, _SYMBOL.sub(lambda match: SYMBOLS[match[0]], text))
    text = _BAR_ABOVE.sub(r"\\overline{\1}", text)
    # NFKC turns full-width forms into others of the table, so the table comes first and last.
    return _SYMBOL.sub(lambda match: SYMBOLS[match[0]], unicodedata.normalize("NFKC", text))


def _vulgar(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"
