"""What ranks the candidates of a recipe with ``select_by``; the least wins."""

from __future__ import annotations

# By name, the property of an ``ExampleScore`` under the student before SFT.
RANKINGS = {"student_bpc": "bits_per_byte", "student_rsr": "rank_surprisal_ratio"}
