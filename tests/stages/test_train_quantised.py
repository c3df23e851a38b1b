"""Training of adapters on a base in 4 bits, as users run it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest
import torch
from training import Curve, Prepared, assert_same, fitted, weights

from micota import graph
from micota.config import Config
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.stages.train import check_placement

NF4 = ["trainer.quantize=nf4", "student.sft.lora.r=4", "student.sft.epochs=1", "student.sft.learning_rate=1e-2"]


def test_it_learns_goes_on_and_exports_a_plain_model(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(*NF4, "trainer.checkpoint_every=4", "trainer.validate_every=3",
                      "student.sft.validation_fraction=0.2")  # fmt: skip

    def killed(self: Curve, metrics: Mapping[str, float], step: int) -> None:
        if step == 6 and "train/loss" in metrics:
            raise RuntimeError("killed at step 6")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed at step 6"):
        patch.setattr(Curve, "step", killed)
        fitted(config)
    resumed, rest = fitted(config)
    undisturbed, whole = fitted(elsewhere(config, "undisturbed"))
    assert rest.losses == whole.losses[4:] and whole.losses[-1] < 0.9 * whole.losses[0]
    assert_same(resumed, undisturbed)

    # The export is a plain model: the files' weights, those of linear layers with adapters.
    assert "quantization_config" not in json.loads((resumed / "config.json").read_text())
    before, after = weights(model_folder("bundled:student")), weights(resumed)  # type: ignore[arg-type]
    assert before.keys() == after.keys()
    for name, values in after.items():
        assert torch.equal(values, before[name]) != name.endswith("_proj.weight")
    assert (resumed / "adapter" / "adapter_model.safetensors").exists()


def test_it_is_another_key_and_needs_adapters(prepared: Prepared) -> None:
    plain, quantised = (prepared("student.sft.lora.r=4", f"trainer.quantize={kind}") for kind in ("none", "nf4"))
    assert graph.trained(plain, "student").key != graph.trained(quantised, "student").key
    config = prepared("trainer.quantize=nf4")
    with pytest.raises(ConfigError, match=r"trainer.quantize=nf4 without adapters"):
        check_placement(config, graph.trained(config, "student"))


@pytest.mark.slow
def test_compiled_layers_equal_others(prepared: Prepared, elsewhere: Callable[[Config, str], Config]) -> None:
    steps = "student.sft.max_steps=4"
    plain, compiled = prepared(*NF4, steps), elsewhere(prepared(*NF4, steps, "trainer.compile=true"), "compiled")
    (one, first), (other, second) = fitted(plain), fitted(compiled)
    assert second.losses == pytest.approx(first.losses, abs=1e-4)
    assert_same(other, one, tolerance=2e-4)
