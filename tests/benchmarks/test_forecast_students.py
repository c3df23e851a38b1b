"""The students of the forecast: enough of them, and facts and overrides that name each."""

from pathlib import Path

import forecast_students

from micota.tiny.family import FAMILY


def test_students_are_all_sizes_at_all_lengths() -> None:
    students = forecast_students.every_student(list(FAMILY), Path("/folder"))
    assert len({student.name for student in students}) == len(students) == 3 * len(FAMILY)
    by_name = {student.name: student for student in students}
    middle, late = by_name["qwen-66k-middle"], by_name["qwen-66k-late"]
    assert middle.overrides == ["student=tiny_66k"]
    assert late.overrides == ["student=tiny_66k", "student.path=/folder/qwen-66k-late"]
    assert late.facts["num_parameters"] == middle.facts["num_parameters"] == 64864
    assert late.facts["pretraining_steps"] > middle.facts["pretraining_steps"]
