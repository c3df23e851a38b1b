from __future__ import annotations

from typing import Any

import pytest
import torch
from packed_models import FAMILIES, model_of, sequences
from stand_in_gpu import install_kernels
from transformers import Gemma2Config, MistralConfig, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.errors import ConfigError
from micota.sft import attention
from micota.sft.attention import choose, implementation
from micota.sft.losses import softcap, summed_nll, supervised, token_nll
from micota.sft.packing import borders, collate


def loss_and_gradients(model: Any, capacity: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    batch = collate(sequences(), capacity)
    hidden, labels = supervised(model, batch, borders(batch["position_ids"]))
    loss = summed_nll(hidden, model.get_output_embeddings().weight, labels, len(labels), cap=softcap(model), rows=7)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("kernel", ["sequences", "sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_equals_unpacked(family: str, kernel: str) -> None:
    """Against the eager kernel of transformers with a row for each sequence, so that bounds and windows count too."""
    expected, expected_gradients = loss_and_gradients(
        model_of(family, "sdpa" if kernel == "sdpa" else "eager"), capacity=1
    )
    packed, gradients = loss_and_gradients(model_of(family, kernel), capacity=96)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kernel", ["sequences", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_logits_equal_those_of_the_plain_model(family: str, kernel: str) -> None:
    model, plain = model_of(family, kernel).eval(), model_of(family, "eager").eval()
    batch = collate(sequences(), 96)
    hidden, _ = supervised(model, batch, borders(batch["position_ids"]))
    cap = softcap(model)
    logits = model.get_output_embeddings()(hidden)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    at = 0
    for row in _rows_of(batch):
        alone = plain(input_ids=row[None]).logits[0, 2:-1]  # from the last token of the prompt, num_prompt=3
        torch.testing.assert_close(logits[at : at + len(alone)], alone, rtol=1e-4, atol=1e-4)
        at += len(alone)
    assert at == len(logits)


def _rows_of(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The sequences of a batch in the order in which they lie in it, padding left out."""
    lengths = borders(batch["position_ids"])["lengths"]
    pieces = zip(batch["input_ids"].flatten().split(lengths), batch["labels"].flatten().split(lengths), strict=True)
    return [ids for ids, labels in pieces if (labels != -100).any()]


def test_sdpa_would_leave_the_bound_out() -> None:
    """The reason to refuse sdpa for such a model: transformers does not warn."""
    batch = collate(sequences(), 1)
    nll = [token_nll(model_of("gemma2", kernel), batch).sum() for kernel in ("sdpa", "eager")]
    assert abs(float((nll[0] - nll[1]).detach())) > 1e-3


def test_the_choice() -> None:
    assert choose("auto", "cpu", FAMILIES["gemma2"]) == "sequences"
    assert choose("auto", "cuda", FAMILIES["qwen2"]) in ("flash_attn", "varlen")
    assert choose("auto", "cuda", FAMILIES["gemma2"]) in ("flash_attn", "flex")
    assert choose("sdpa", "cpu", FAMILIES["qwen2"]) == "sdpa"


@pytest.mark.parametrize(("wanted", "device", "family"), [
    ("sdpa", "cpu", "gemma2"), ("varlen", "cuda", "gemma2"), ("varlen", "cpu", "llama"),
    ("flex", "cpu", "llama"), ("flash_attn", "cpu", "llama"),
])  # fmt: skip
def test_a_kernel_that_does_not_fit_is_refused(wanted: str, device: str, family: str) -> None:
    with pytest.raises(ConfigError, match=f"trainer.attention='{wanted}'.*(accepted|auto)"):
        choose(wanted, device, FAMILIES[family])


# Small models with what kernels must get right: shared heads, windows, a bound.
SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
KERNEL_MODELS: dict[str, Any] = {
    "qwen2": Qwen2Config(**SMALL),
    "qwen2 with windows": Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "mistral": MistralConfig(**SMALL, sliding_window=7),
    "gemma2": Gemma2Config(
        **SMALL, head_dim=8, attn_logit_softcapping=0.5, sliding_window=6, query_pre_attn_scalar=8
    ),
}  # fmt: skip
WITHOUT_BOUND = [name for name, config in KERNEL_MODELS.items() if not attention.is_capped(config)]


@pytest.mark.parametrize("kernel", [*attention.BY_SEQUENCE, *attention.OF_TRANSFORMERS])
def test_a_model_can_be_built_with_every_kernel(kernel: str) -> None:
    """transformers takes a name that contains "flash" for a kernel of the hub."""
    model = AutoModelForCausalLM.from_config(FAMILIES["qwen2"], attn_implementation=implementation(kernel))
    assert model.config._attn_implementation == implementation(kernel)


def states(model: Any, kernel: str, *, autocast: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Final hidden states of packed rows, and the gradients of all weights."""
    model.set_attn_implementation(implementation(kernel))
    model.zero_grad()
    # Sequences of one token too, and two rows.
    positions = torch.cat([torch.arange(9), torch.arange(1), torch.arange(20), torch.arange(2)])[None].repeat(2, 1)
    ids = torch.arange(positions.numel()).view_as(positions) * 7 % 63 + 1
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden = model.base_model(
            input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False, **borders(positions)
        ).last_hidden_state
    hidden.float().square().mean().backward()
    return hidden.detach().float(), torch.cat([w.grad.float().flatten() for w in model.base_model.parameters()])


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize(
    ("name", "kernel"), [(name, "flash_attn") for name in KERNEL_MODELS] + [(name, "varlen") for name in WITHOUT_BOUND]
)
def test_the_kernels_of_a_gpu_get_what_they_accept(
    name: str, kernel: str, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast queries and keys arrive in float32, values in bfloat16."""
    kernels, config = install_kernels(monkeypatch), KERNEL_MODELS[name]
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.no_grad():
        for layer in model.model.layers:  # scores large enough to meet the bound
            layer.self_attn.q_proj.weight.mul_(20)
            layer.self_attn.k_proj.weight.mul_(20)
    expected = states(model, "sequences", autocast=autocast)
    outputs = states(model, kernel, autocast=autocast)
    for seen, wanted in zip(outputs, expected, strict=True):
        assert float((seen - wanted).norm() / wanted.norm()) < 5e-2
    assert len(kernels.calls) == config.num_hidden_layers and {called for called, _ in kernels.calls} == {kernel}
    if kernel == "varlen":  # shared heads are not copied
        assert all(options["enable_gqa"] for _, options in kernels.calls)


def test_an_older_torch_has_another_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = install_kernels(monkeypatch, old_torch=True)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(KERNEL_MODELS["qwen2"], dtype=torch.bfloat16)
    expected, seen = states(model, "sequences", autocast=False), states(model, "varlen", autocast=False)
    assert float((seen[0] - expected[0]).norm() / expected[0].norm()) < 2e-2
    assert {str(call) for call in kernels.calls} == {"('varlen_2_11', {'is_causal': True})"}
    with pytest.raises(ConfigError, match=r"no sliding window.*trainer.attention=flex"):
        states(
            AutoModelForCausalLM.from_config(KERNEL_MODELS["mistral"], dtype=torch.bfloat16), "varlen", autocast=False
        )


def test_the_choice_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, capped = FAMILIES["qwen2"], FAMILIES["gemma2"]
    assert choose("auto", "cuda", plain) == "varlen" and choose("auto", "cuda", capped) == "flex"
    install_kernels(monkeypatch)
    assert choose("auto", "cuda", plain) == choose("auto", "cuda", capped) == "flash_attn"
    for precision in ("bf16-mixed", "bf16-true"):
        assert choose("varlen", "cuda", plain, precision) == "varlen"


def test_float32_on_a_gpu_uses_a_kernel_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install_kernels(monkeypatch)
    assert choose("auto", "cuda", FAMILIES["qwen2"], "32-true") == "sequences"
    assert choose("auto", "cuda", FAMILIES["gemma2"], "32-true") == "flex"
    for kernel in ("flash_attn", "varlen"):
        with pytest.raises(ConfigError, match=f"trainer.attention='{kernel}' computes in 16 bits.*sequences"):
            choose(kernel, "cuda", FAMILIES["llama"], "32-true")


@pytest.mark.parametrize(("change", "text"), [
    ({"head_dim": 20}, "no heads of size 20"), ({"head_dim": 320}, "no heads of size 320"),
    ({"head_dim": 16, "qk_head_dim": 24, "v_head_dim": 16}, "keys of 24 and values of 16"),
])  # fmt: skip
def test_heads_that_flash_attention_does_not_take(
    change: dict[str, int], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_kernels(monkeypatch)
    config = Qwen2Config(**SMALL, **change)
    assert choose("auto", "cuda", config) == "sequences"
    for kernel in ("flash_attn", "varlen"):
        with pytest.raises(ConfigError, match=text):
            choose(kernel, "cuda", config)


def test_dropout_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Qwen2Config(**SMALL, attention_dropout=0.1)
    assert choose("auto", "cuda", config) == "sequences"
    with pytest.raises(ConfigError, match=r"'varlen' has no dropout, and the model has attention_dropout=0\.1"):
        choose("varlen", "cuda", config)
    install_kernels(monkeypatch)
    assert choose("auto", "cuda", config) == "flash_attn"
