from __future__ import annotations

import pytest
import roofline

from micota.sft.shape import Shape


def test_products_are_those_of_the_model_and_of_what_is_computed_again() -> None:
    counted, shape = roofline.count("tiny", "none", 256)
    # Forward and backward, without attention, which is counted by calls.
    assert counted.products == pytest.approx(shape.flops([256], 256) - 6 * shape.num_layers * shape.attention * 256**2)
    assert counted.attention == shape.num_layers * (1 + 2.5)
    again, _ = roofline.count("tiny", "full", 256)
    # The last product of a layer is not computed again: nothing in the backward pass reads its output.
    last = shape.num_layers * shape.hidden * shape.intermediate
    assert again.products - counted.products == pytest.approx(2 * (shape.linear - last) * 256)
    assert again.attention - counted.attention == shape.num_layers and again.bytes > counted.bytes


def test_a_faster_gpu_only_speeds_up_its_part() -> None:
    h100, h200 = (roofline.row("tiny", name, 256, 128) for name in ("h100x1", "h200x1"))
    assert h100[:2] == h200[:2] == ["tiny", "none"] and h100[2] != h200[2]
    assert isinstance(roofline.count("tiny", "none", 256)[1], Shape)
