"""Whole merges: the same bits however they are run, a whole model, and clear refusals."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import thorough_after
from random_adapters import random_adapter
from toy_models import ASK, family, model_of, save, spec, tensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.checkpoint import INDEX, WEIGHTS, Checkpoint, CheckpointWriter
from micota.config import MERGE_METHODS
from micota.errors import ConfigError, UserError
from micota.merging import merge as merge_module
from micota.merging import slices, verify
from micota.merging.merge import merge_models
from micota.merging.models import open_models, tensor_names
from micota.merging.stream import ModelMerge, in_parallel


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return family(tmp_path_factory.mktemp("pair"), "qwen2", tied=True, count=2)


def run(models: list[Path], folder: Path, recipe: Any = None, **options: Any) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    base, *tuned = ((str(path), None) for path in models)
    return merge_models(recipe or spec(), base, tuned, folder, ASK, **options)


@pytest.mark.parametrize("method", thorough_after(4, [*MERGE_METHODS]))
def test_threads_do_not_change_a_bit(pair: list[Path], tmp_path: Path, method: str) -> None:
    recipe = spec(method, rescale="norm")
    contents = []
    for threads in (1, 2, 8):
        torch.set_num_threads(threads)
        run(pair, tmp_path / str(threads), recipe)
        assert torch.get_num_threads() == threads
        contents.append((tmp_path / str(threads) / WEIGHTS).read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_slices_are_merged_on_the_device_of_the_setting(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: set[torch.device] = set()
    values = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        devices.update(torch.device(arg) for arg in args if isinstance(arg, str))
        return values(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    run(pair, tmp_path / "merged", device="cpu:0")
    assert torch.device("cpu:0") in devices


def test_shards_do_not_change_a_bit(pair: list[Path], tmp_path: Path) -> None:
    run(pair, tmp_path / "whole")
    whole = tensors(tmp_path / "whole")
    for shard_bytes in (1, 5000, 20_000):
        folder = tmp_path / str(shard_bytes)
        run(pair, folder, shard_bytes=shard_bytes)
        assert len(list(folder.glob("model-*.safetensors"))) > 1 and (folder / INDEX).exists()
        cut = tensors(folder)
        assert cut.keys() == whole.keys() and all(torch.equal(cut[name], whole[name]) for name in whole)
        again = tmp_path / f"again-{shard_bytes}"  # and shards as input
        run([folder, pair[1]], again)
        run([tmp_path / "whole", pair[1]], tmp_path / "again")
        assert (again / WEIGHTS).read_bytes() == (tmp_path / "again" / WEIGHTS).read_bytes()


def test_the_order_of_tensors_does_not_change_a_bit(pair: list[Path], tmp_path: Path) -> None:
    with open_models([(str(path), None) for path in pair], tmp_path / "scratch") as models:
        names = tensor_names(models)
        checkpoints = [model.checkpoint for model in models]
        first = dict(ModelMerge(spec(), checkpoints[0], checkpoints[1:], names).tensors())
        second = dict(ModelMerge(spec(), checkpoints[0], checkpoints[1:], names[::-1]).tensors())
    assert all(torch.equal(first[name], second[name]) for name in names)


def test_the_same_seed_gives_the_same_model_and_another_another(pair: list[Path], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(pair, tmp_path / name, spec(seed=seed))
    files = {name: (tmp_path / name / WEIGHTS).read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_in_memory_and_on_disk_are_the_same(pair: list[Path], tmp_path: Path) -> None:
    run(pair, tmp_path / "disk", spec(dtype="bfloat16"))
    with open_models([(str(path), None) for path in pair], tmp_path / "scratch") as models:
        merge = ModelMerge(spec(dtype="bfloat16"), models[0].checkpoint, [models[1].checkpoint], tensor_names(models))
        expected = tensors(tmp_path / "disk")
        for name, values in merge.tensors():
            assert torch.equal(values, expected[name])


@pytest.mark.parametrize("tied", [True, False])
def test_the_result_is_a_whole_model_of_the_tuned_one(tmp_path: Path, tied: bool) -> None:
    base, tuned = family(tmp_path, "llama", tied, count=2)
    tokenizer: Any = AutoTokenizer.from_pretrained(tuned)
    tokenizer.chat_template = "{{ messages[0]['content'] }} ="
    tokenizer.save_pretrained(tuned)
    run([base, tuned], tmp_path / "m")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    merged_tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert merged_tokenizer.chat_template == tokenizer.chat_template
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert model.dtype == torch.float32 and model.get_input_embeddings().weight.shape[0] == 300
    is_tied = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert is_tied == tied
    assert {path.name for path in (tmp_path / "m").iterdir() if path.is_dir()} == set()


def test_a_model_larger_than_memory_is_checked_layer_by_layer(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pair, tmp_path / "at once")
    monkeypatch.setattr(verify, "LOADED", {"cpu": 60_000})  # bytes: the embedding and one layer
    run(pair, tmp_path / "in turn")
    samples = [json.loads((tmp_path / name / "merge.json").read_text())["sample"] for name in ("at once", "in turn")]
    assert samples[0] == samples[1]


def test_the_report_lists_what_was_done_to_each_module(pair: list[Path], tmp_path: Path) -> None:
    norms = run(pair, tmp_path)
    old, new, merged = (tensors(path) for path in (*pair, tmp_path))
    report = json.loads((tmp_path / "merge.json").read_text())
    delta = torch.cat([(new[name] - old[name]).flatten() for name in merged])
    kept = torch.cat([(merged[name] - old[name]).flatten() for name in merged])
    assert norms["task_vector_norm"] == pytest.approx(float(delta.norm()), rel=1e-4)
    assert norms["merged_vector_norm"] == pytest.approx(float(kept.norm()), rel=1e-4)
    assert norms["dropped_share"] == pytest.approx(float((kept == 0).float().mean()), abs=1e-3)
    q_proj = report["modules"]["self_attn.q_proj.weight"]
    squares = [(new[name] - old[name]).pow(2).sum().item() for name in merged if "q_proj.weight" in name]
    assert q_proj["task_vector_norms"][0] == pytest.approx(math.sqrt(sum(squares)), rel=1e-4)
    assert {"layer 0", "layer 1", "layer 2"} <= report["layers"].keys()
    assert "self_attn.q_proj.weight" in (tmp_path / "merge.txt").read_text()
    assert isinstance(report["sample"], str)


def test_weights_of_0_leave_modules_as_they_were(pair: list[Path], tmp_path: Path) -> None:
    run(pair, tmp_path, spec(weight=[{"filter": "mlp", "value": 1.0}, {"value": 0}], density=1.0))
    old, new, merged = (tensors(path) for path in (*pair, tmp_path))
    for name, values in merged.items():
        torch.testing.assert_close(values, new[name] if "mlp" in name else old[name])


def adapted(base: Path, folder: Path, **settings: Any) -> tuple[Path, Path]:
    """Folders of a random adapter, and of its model with the adapter merged in by peft."""
    wrapped = random_adapter(base, folder / "lora", **{"target_modules": ["q_proj", "down_proj"]} | settings)
    return folder / "lora", save(wrapped.merge_and_unload(), folder / "full")


ADAPTERS: list[dict[str, Any]] = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 3}},
    {"modules_to_save": ["lm_head"], "bias": "all"},
]


@pytest.mark.parametrize("settings", ADAPTERS, ids=["plain", "rslora", "patterns", "whole modules"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_adapter_is_applied_first(tmp_path: Path, settings: dict[str, Any], dtype: torch.dtype) -> None:
    base = save(model_of("qwen2", tied=False).to(dtype), tmp_path / "base")
    lora, full = adapted(base, tmp_path, **settings)
    with open_models([(str(base), None), (str(lora), None)], tmp_path / "scratch") as models:
        applied, reference = tensors(models[1].folder), tensors(full)
        for name, values in reference.items():
            torch.testing.assert_close(
                applied[name], values, rtol=0, atol=1e-7, msg=lambda text, n=name: f"{n}: {text}"
            )
        assert any(not torch.equal(values, tensors(base)[name]) for name, values in applied.items())
        model: Any = AutoModelForCausalLM.from_pretrained(models[1].folder, dtype="auto")
        assert model.dtype == dtype and model.generation_config.eos_token_id == 1
    run([base, lora], tmp_path / "from_adapter", spec(dtype="bfloat16"))
    run([base, full], tmp_path / "from_full", spec(dtype="bfloat16"))
    merged, reference = tensors(tmp_path / "from_adapter"), tensors(tmp_path / "from_full")
    for name, values in reference.items():
        torch.testing.assert_close(merged[name], values, rtol=1e-2, atol=1e-7)
    assert not (tmp_path / "from_adapter" / "scratch").exists()


def test_an_adapter_is_applied_slice_by_slice(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora, full = adapted(pair[0], tmp_path)
    sizes: list[int] = []
    write = CheckpointWriter.write

    def noting(writer: Any, name: str, start: int, values: torch.Tensor) -> None:
        sizes.append(len(values))
        write(writer, name, start, values)

    monkeypatch.setattr(CheckpointWriter, "write", noting)
    monkeypatch.setattr(slices, "SLICE", 100)
    with open_models([(str(pair[0]), None), (str(lora), None)], tmp_path / "scratch") as models:
        assert max(sizes) <= 100
        merged = tensors(models[1].folder)
    for name, values in tensors(full).items():
        torch.testing.assert_close(merged[name], values, rtol=0, atol=1e-7)


def test_adapters_that_cannot_be_applied_are_refused(pair: list[Path], tmp_path: Path) -> None:
    dora, _ = adapted(pair[0], tmp_path / "dora", use_dora=True)
    refused([pair[0], dora], tmp_path, "use_dora=True", "accepted: LoRA of linear layers")
    lora, _ = adapted(save(model_of("qwen2", True, intermediate_size=64), tmp_path / "other"), tmp_path / "lora")
    settings = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(pair[0])}))
    refused([pair[0], lora], tmp_path, "down_proj.weight of shape (32, 64)", "is (32, 48)", "that it was trained on")
    (lora / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(tmp_path / "no")}))
    refused([pair[0], lora], tmp_path, "the model that it names, cannot be read")
    (lora / "adapter_config.json").write_text(json.dumps(settings | {"peft_type": "IA3"}))
    refused([pair[0], lora], tmp_path, f"{lora}: the adapter is of type IA3", "accepted: LoRA of linear layers")
    (lora / "adapter_config.json").write_text("{")
    refused([pair[0], lora], tmp_path, f"path='{lora}': its adapter_config.json cannot be read")


def test_too_small_a_disk_is_refused_before_an_adapter_is_applied(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora, _ = adapted(pair[0], tmp_path)
    size = sum(values.numel() for values in tensors(pair[0]).values())
    usage = shutil.disk_usage(tmp_path)._replace(free=8 * size - 1)  # twice the model in float32 is needed
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(CheckpointWriter, "write", None)
    refused([pair[0], lora], tmp_path, "the model with its adapter applied and the merged model need")
    assert not list((tmp_path / "out").iterdir())


def broken(pair: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pair[1], tmp_path / "broken"))


def refused(models: list[Path], tmp_path: Path, *named: str) -> None:
    with pytest.raises(UserError) as caught:
        run(models, tmp_path / "out")
    text = str(caught.value)
    assert "\n" not in text
    for part in named:
        assert part in text
    assert not (tmp_path / "out" / WEIGHTS).exists() or "not finite" in text


def test_a_model_of_another_shape_is_refused(pair: list[Path], tmp_path: Path) -> None:
    other = save(model_of("qwen2", True, intermediate_size=64), tmp_path / "other")
    refused(
        [pair[0], other], tmp_path, "cannot be merged", "intermediate_size is 48", "64", "a model and a fine-tune of it"
    )


def test_another_architecture_is_refused(pair: list[Path], tmp_path: Path) -> None:
    refused([pair[0], save(model_of("llama", True), tmp_path / "o")], tmp_path, "model_type", "'qwen2'", "'llama'")


def test_untied_is_refused_with_tied(pair: list[Path], tmp_path: Path) -> None:
    refused([pair[0], save(model_of("qwen2", False), tmp_path / "o")], tmp_path, "tie_word_embeddings", "True", "False")


def test_other_vocabularies_are_refused(pair: list[Path], tmp_path: Path) -> None:
    tuned = broken(pair, tmp_path)
    content = (tuned / "tokenizer.json").read_text()
    (tuned / "tokenizer.json").write_text(other_word(content))
    refused([pair[0], tuned], tmp_path, "in their tokenizers id", "whose added tokens may differ")


def other_word(content: str) -> str:
    """The JSON of a tokenizer with another name for one word of its vocabulary."""
    known = json.loads(content)
    vocabulary = known["model"]["vocab"]
    word = max(vocabulary, key=vocabulary.get)
    vocabulary[f"{word}x"] = vocabulary.pop(word)
    return json.dumps(known)


def test_a_missing_shard_is_named(pair: list[Path], tmp_path: Path) -> None:
    tuned = broken(pair, tmp_path)
    (tuned / WEIGHTS).unlink()
    (tuned / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    refused([pair[0], tuned], tmp_path, "model-00001-of-00002.safetensors is missing", "fetch the model again")


@pytest.mark.parametrize("entry", [
    {}, [], None, "F32",
    {"dtype": "F32", "shape": [1]},
    {"shape": [1], "data_offsets": [0, 4]},
    {"dtype": "F32", "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [0]},
    {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]},
    {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
])  # fmt: skip
def test_an_odd_entry_of_a_header_is_one_error(tmp_path: Path, entry: Any) -> None:
    header = json.dumps({"weight": entry}).encode()
    (tmp_path / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with (
        pytest.raises(ConfigError, match=f"{WEIGHTS} is not a whole safetensors file .*fetch the model again"),
        Checkpoint.open(tmp_path),
    ):
        pass


def test_a_shape_of_another_size_than_its_bytes_is_one_error(tmp_path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with (
        pytest.raises(ConfigError, match=r"weight has 4 bytes, its shape \[2\] of F32 needs 8"),
        Checkpoint.open(tmp_path),
    ):
        pass


def test_a_shard_cut_short_is_named(pair: list[Path], tmp_path: Path) -> None:
    tuned = broken(pair, tmp_path)
    (tuned / WEIGHTS).write_bytes((tuned / WEIGHTS).read_bytes()[:-4])
    refused([pair[0], tuned], tmp_path, WEIGHTS, "its header says")
    (tuned / WEIGHTS).write_bytes(b"no header at all")
    refused([pair[0], tuned], tmp_path, WEIGHTS, "not a whole safetensors file")
    (tuned / WEIGHTS).unlink()
    refused([pair[0], tuned], tmp_path, "neither", "accepted: a model saved as safetensors")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_value_that_is_not_finite_is_named(pair: list[Path], tmp_path: Path, value: float, which: int) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(pair[which])
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = value
    models = list(pair)
    models[which] = save(model, tmp_path / "bad")
    refused(models, tmp_path, "bad", "layers.1.mlp.up_proj.weight has 1 values that are not finite", str(3 * 32 + 5))


def test_too_small_a_disk_is_refused_before_anything_is_written(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    refused(pair, tmp_path, "needs 0.02 GB", "0.00 GB free", "artifacts=FOLDER")
    assert not list((tmp_path / "out").iterdir())


def test_a_merge_that_differs_from_its_spec_fails_the_check(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_settings = merge_module.write_settings

    def forgets_the_template(*arguments: Any) -> None:
        write_settings(*arguments)
        (tmp_path / "out" / "chat_template.jinja").unlink()

    monkeypatch.setattr(merge_module, "write_settings", forgets_the_template)
    with pytest.raises(ConfigError, match="chat template of the merged model: found None"):
        run(pair, tmp_path / "out")


def test_work_in_parallel_keeps_order_and_stops_at_an_error() -> None:
    assert list(in_parallel(lambda x: x * x, range(20), 4)) == [x * x for x in range(20)]
    done = []

    def fails_at_3(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        done.append(x)
        return x

    with pytest.raises(ValueError, match="three"):
        list(in_parallel(fails_at_3, range(1000), 2))
    assert len(done) < 10


def test_checkpoints_are_read_in_any_slices(pair: list[Path]) -> None:
    whole = tensors(pair[0])
    with Checkpoint.open(pair[0]) as checkpoint:
        name = "model.embed_tokens.weight"
        assert torch.equal(checkpoint.read(name, 37, 5003), whole[name].flatten()[37:5003])
