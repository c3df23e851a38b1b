r"""What the commands and signs of LaTeX and ASCII mathematics stand for: one table for each kind of token."""

from __future__ import annotations

from micota.grading.reading.words import word_set

FUNCTIONS = word_set(
    """
    sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh coth ln log lg exp sqrt cbrt
    abs floor ceil gcd lcm max min det arg Re Im re im sgn sign mod binom cis deg dim ker Pr
    """
)
RENAMED = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log", "re": "Re", "im": "Im", "sign": "sgn"}
CONSTANTS = {
    "pi": "pi",
    "infty": "infinity",
    "infinity": "infinity",
    "inf": "infinity",
    "oo": "infinity",
    "Infinity": "infinity",
}
GREEK = word_set(
    """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi omicron rho sigma
    tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar mho
    """
)
ORDER = frozenset(["<", ">", "<=", ">=", "!="])
RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "lt": "<", "gt": ">", "<=": "<=", ">=": ">=", "le": "<=", "leq": "<=",
    "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=", "!=": "!=", "ne": "!=",
    "neq": "!=", "in": "in", "notin": "notin", "equiv": "equiv", "approx": "approx", "sim": "approx", "simeq": "approx",
    "cong": "equiv", "to": "to", "rightarrow": "to", "mapsto": "to", "subset": "subset", "subseteq": "subset",
    "propto": "propto", "perp": "perp", "parallel": "parallel", "mid": "mid", "nmid": "nmid", "=<": "<=", "doteq":
    "approx",
}  # fmt: skip
OPERATORS = {
    "+": "+", "-": "-", "*": "*", "**": "^", "^": "^", "/": "/", "!": "!", "_": "_", "'": "'", "|": "|", "%": "%",
    ":": ":",
    "cdot": "*", "times": "*", "ast": "*", "cdotp": "*", "bullet": "*", "div": "/", "pm": "pm", "mp": "mp",
    "cup":
    "cup",
    "bigcup": "cup", "cap": "cap", "setminus": "minus", "backslash": "minus", "smallsetminus": "minus", "vert":
    "|",
    "lvert": "|", "rvert": "|", "circ": "circ", "degree": "degree", "prime": "'", "colon": ":",
}  # fmt: skip
OPEN = {
    "(": "(",
    "[": "[",
    "{": "{",
    "\\{": "{}",
    "lbrace": "{}",
    "lbrack": "[",
    "langle": "<",
    "lfloor": "floor",
    "lceil": "ceil",
}
CLOSE = {
    ")": ")",
    "]": "]",
    "}": "}",
    "\\}": "{}",
    "rbrace": "{}",
    "rbrack": "]",
    "rangle": ">",
    "rfloor": "floor",
    "rceil": "ceil",
}
SEPARATORS = {",": ",", ";": ";", "land": "and", "lor": "or", "wedge": "and", "vee": "or"}
IGNORED = word_set(
    """
    left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle textstyle
    scriptstyle scriptscriptstyle limits nolimits rm bf it cal mathopen mathclose mathord mathbin strut nonumber
    notag hfill hline small large Large footnotesize normalsize bfseries triangle therefore because qed blacksquare
    square Box checkmark boldsymbol boxed fbox underline mathstrut left. right. smash phantom
    """
)
ACCENTS = word_set(
    """
    vec hat overrightarrow overline bar widehat tilde mathring dot underbrace overbrace widetilde mathcal mathfrak
    mathscr
    """
)
