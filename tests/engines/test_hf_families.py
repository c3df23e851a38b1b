"""Greedy answers of the embedded engine and of transformers' ``generate``, for small random models of many families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from micota.config import SamplingConfig
from micota.data.sources import model_folder
from micota.engines.base import Request
from micota.engines.hf import HFEngine
from micota.errors import ConfigError
from micota.pretrained import load_tokenizer

GREEDY = SamplingConfig(temperature=0.0, max_tokens=24)
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128, "bos_token_id": None,
    "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
HYBRIDS: dict[str, dict[str, Any]] = {
    "qwen3_next": MOE | LINEAR | {"shared_expert_intermediate_size": 16},
    "qwen3_5_text": LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"], "full_attn_idxs": [1]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **MOE},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 4, "n_groups": 1},
    "jamba": {
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "head_dim": None,
        "use_mamba_kernels": False,
    },
    "bamba": {
        "attn_layer_indices": [1],
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
    },
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
}
WINDOW = {"sliding_window": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "gemma3_text": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "llama": {},
    "mistral": WINDOW,
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 16},
    "qwen3": {},
    "qwen3_moe": MOE,
    "gemma": {},
    "gemma2": WINDOW,
    "phi": {"head_dim": None},
    "phi3": {"head_dim": None},
    "olmo2": {},
    "granite": {},
    "cohere": {},
    "starcoder2": WINDOW,
    "stablelm": {},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 128},
    "smollm3": {},
    "glm4": {},
}


def end_of(answers: list[list[int]]) -> int:
    """The token that ends most answers after their first token, at as many lengths as possible."""

    def lengths(token: int) -> set[int]:
        return {ids.index(token) for ids in answers if token in ids} - {0}

    return max(sorted({token for ids in answers for token in ids}), key=lambda token: len(lengths(token)))


FAST = (*(name for name in HYBRIDS if name not in ("jamba", "bamba")), "qwen2", "gemma3_text")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    torch.set_num_threads(1)
    return load_tokenizer(model_folder("bundled:ta"))


def model_of(family: str, settings: dict[str, Any], vocab_size: int) -> Any:
    torch.manual_seed(0)
    sizes = {name: value for name, value in (SIZES | settings).items() if value is not None or name == "bos_token_id"}
    config = AutoConfig.for_model(family, vocab_size=vocab_size, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():  # the usual start gives nearly equal logits, whose order rounding would decide
        for values in model.parameters():
            if values.dim() > 1:
                values.mul_(4)
    return model.eval()


def single(model: Any, request: Request, eos: list[int] | None) -> list[int]:
    ids = torch.tensor([request.prompt_ids])
    settings = {"max_new_tokens": GREEDY.max_tokens, "do_sample": False, "suppress_tokens": [0], "eos_token_id": eos}
    whole: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()
    return whole


@pytest.mark.parametrize(
    "family",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in (*HYBRIDS, *FAMILIES)],
)
def test_greedy_answers_are_those_of_generate(family: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows that end at different tokens, leave the batch, and make place for others of another length."""
    model = model_of(family, (HYBRIDS | FAMILIES)[family], len(tokenizer))
    generator = torch.Generator().manual_seed(1)
    lengths = [3, 9, 5, 12, 4, 7, 20, 6]
    prompts = [torch.randint(2, len(tokenizer), (length,), generator=generator).tolist() for length in lengths]
    requests = [Request(id=(str(row), 0), prompt_ids=ids, seed=row) for row, ids in enumerate(prompts)]
    endless = [single(model, request, None) for request in requests]
    eos = sorted({tokenizer.eos_token_id, end_of(endless)})  # the engine ends at both
    model.generation_config.eos_token_id = eos
    expected = {request.id: single(model, request, eos) for request in requests}
    engine = HFEngine.around(model, tokenizer, batch_size=3)
    sizes = []
    forward = engine._forward
    monkeypatch.setattr(engine, "_forward", lambda batch: (sizes.append(len(batch.rows)), forward(batch))[1])
    for output in engine.generate(requests, GREEDY):
        ids = expected[output.id]
        stops = ids[-1] in eos
        assert output.text == tokenizer.decode(ids[:-1] if stops else ids, skip_special_tokens=True)
        assert (output.num_tokens, output.finish_reason) == (len(ids), "stop" if stops else "length")
        del expected[output.id]
    assert not expected and min(sizes) < max(sizes) == 3, "rows should leave the batch"


@pytest.mark.parametrize(("family", "settings"), [
    ("rwkv", {"attention_hidden_size": 32}),
    ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "lru_width": 32, "attention_window_size": 8}),
    ("minimax", {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2, "block_size": 4}),
])  # fmt: skip
def test_a_model_with_states_in_no_cache_is_refused(family: str, settings: dict[str, Any], tokenizer: Any) -> None:
    """The states of one row went on in another, without a word."""
    engine = HFEngine.around(model_of(family, settings, len(tokenizer)), tokenizer, batch_size=2)
    requests = [Request(id=("0", 0), prompt_ids=[2, 3], seed=0)]
    with pytest.raises(ConfigError, match=f"engine=hf cannot batch a model of type {family}, which keeps its state"):
        list(engine.generate(requests, GREEDY))


def test_tokens_above_the_number_of_tokens_may_be_sampled(tokenizer: Any) -> None:
    """A tokenizer with holes, as that of Phi-4-mini, whose end token is above its number of tokens."""
    size = len(tokenizer)

    class Holes:
        pad_token_id, eos_token_id = 0, size + 5

        def __len__(self) -> int:
            return size

        def get_vocab(self) -> dict[str, int]:
            return {"<end>": size + 5, "other": size + 7, **{str(index): index for index in range(size - 2)}}

    model = model_of("qwen2", {}, size + 10)
    model.generation_config.eos_token_id = [size + 5]
    engine = HFEngine.around(model, Holes(), batch_size=2)
    allowed = (~engine._forbidden).nonzero()[:, 0].tolist()
    assert allowed == [*range(1, size), size + 5, size + 7]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error_of_the_row(tokenizer: Any, temperature: float, value: float) -> None:
    model = model_of("qwen2", {}, len(tokenizer))
    model.generation_config.eos_token_id = [1]
    engine = HFEngine.around(model, tokenizer, batch_size=4)
    requests = [Request(id=(str(row), 0), prompt_ids=[5 + row, 6, 7], seed=row) for row in range(3)]
    sampling = SamplingConfig(temperature=temperature, max_tokens=6)
    whole = {output.id: output.text for output in engine.generate(requests, sampling)}
    with torch.no_grad():
        model.get_input_embeddings().weight = torch.nn.Parameter(model.get_input_embeddings().weight.clone())
        model.get_input_embeddings().weight[5] = value  # the first token of row 0 alone
    outputs = {output.id: output for output in engine.generate(requests, sampling)}
    failed = outputs["0", 0]
    assert (failed.finish_reason, failed.num_tokens, failed.text) == ("error", 0, "")
    assert failed.error == "no number after token 0: the model's logits are NaN or infinite"
    fine = [output for output in outputs.values() if output.error is None]
    assert {output.id: output.text for output in fine}.items() <= whole.items() and len(fine) >= 1
