from __future__ import annotations

from micota.grading.disagreements import Disagreements
from micota.records import Completion, Problem, Verdict


def test_hostile_text_is_shown_as_escapes() -> None:
    row = Completion(
        problem_id="a", sample=0, prompt_hash="", completion="\ud83d \x1b[31m \u202e|`\\boxed{5}", finish_reason="stop",
        num_prompt_tokens=1, num_tokens=1, seconds=0.0,
    )  # fmt: skip
    verdicts = {
        "typed": Verdict(prediction="5\ud83d\x07", correct=True, reason="rule (box)"),
        "paper_rule": Verdict(prediction=None, correct=None, reason="no_answer"),
    }
    disputed = Disagreements({"a": Problem(id="a", problem="\x00?", answer="5`\udc00")})
    disputed.add([row], [verdicts])
    page = disputed.page()
    page.encode("utf-8")
    assert "\\ud83d" in page and "\\u001b" in page and "\\u0007" in page and "\\u202e" in page and "\\u0000" in page
    assert page.isprintable() or not any(ord(character) < 32 and character != "\n" for character in page)
