from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    Cohere2Config,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
)

from micota.errors import ConfigError
from micota.sft import losses
from micota.sft.agreement import check, compare, small_config

AGREE = [
    Qwen2Config(), Qwen3Config(), LlamaConfig(), MistralConfig(sliding_window=4096), Gemma2Config(), SmolLM3Config(),
    Gemma3TextConfig(), GraniteConfig(logits_scaling=8.0), CohereConfig(), Cohere2Config(), Phi3Config(),
]  # fmt: skip


@pytest.mark.parametrize("config", AGREE, ids=lambda config: config.model_type)
def test_the_loss_of_families_that_are_trained_is_that_of_their_logits(config: Any) -> None:
    before = torch.random.get_rng_state()
    settings = config.to_dict()
    check(config, "sequences")
    assert torch.equal(before, torch.random.get_rng_state()) and config.to_dict() == settings


@pytest.mark.parametrize("config", [GraniteConfig(logits_scaling=8.0), CohereConfig()], ids=lambda c: c.model_type)
def test_a_factor_on_logits_that_the_loss_does_not_know_is_refused(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "logit_factor", lambda model: 1.0)
    words = (
        rf"{config.model_type}.* its loss would be .* nats a token on a test, and .* by transformers' logits; it cannot"
    )
    with pytest.raises(ConfigError, match=words):
        check(config, "sequences")


@pytest.mark.parametrize(("config", "words"), [
    # The kernels of micota know no sinks; those of transformers lack the mask of packed sequences for them.
    (GptOssConfig(), "'gpt_oss' with the attention kernel 'varlen': its loss would be .*; it cannot be trained here"),
    (StableLmConfig(), r"'stablelm' .*cannot be computed \(TypeError: .*; accepted: trainer.attention=eager"),
    (
        NemotronConfig(head_dim=128, num_key_value_heads=8),
        r"'nemotron' .*cannot be computed \(TypeError: .*; accepted: trainer.attention=eager",
    ),
], ids=lambda value: getattr(value, "model_type", ""))  # fmt: skip
def test_an_architecture_with_another_loss_is_refused_by_name(config: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(config, "varlen")


def test_an_architecture_of_which_no_small_model_can_be_made_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    config = LlamaConfig(hidden_act="none")
    compared = compare(config, "sequences")
    assert compared.expected is None and compared.problem is None and "none" in compared.failure
    assert "llama: the loss is not compared with transformers' logits, as a small model fails" in caplog.text


def test_a_small_model_keeps_what_the_loss_depends_on() -> None:
    config = small_config(Gemma2Config(final_logit_softcapping=7.0))
    assert config.final_logit_softcapping == 7.0 and set(config.layer_types) == {"sliding_attention", "full_attention"}
    assert config.head_dim == 256 and config.num_attention_heads == 4 and config.num_key_value_heads == 2
