"""Data and a model -> the model fine-tuned on it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer, seed_everything

from micota.artifacts.jsonl import read_jsonl, write_text
from micota.artifacts.store import Store
from micota.config import TrainerConfig
from micota.console import progress_bar
from micota.errors import ConfigError
from micota.export import export, export_streamed, named_weights, rehearse
from micota.graph import TrainSpec
from micota.graph.node import AnyNode
from micota.pretrained import load_config, load_model, load_tokenizer
from micota.records import DATA, Example
from micota.runtime.distributed import Watcher, check_launch, outer_rank, stop
from micota.runtime.inputs import check_device, close_engine, input_path, model_location
from micota.runtime.launch import launch, run_rank
from micota.runtime.work import Work
from micota.sft import attention, loading, lora, losses
from micota.sft import memory as budget
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.checkpoints import Checkpoints, StoppedError, StreamedCheckpoints
from micota.sft.cpu_kernels import use_cpu_kernels
from micota.sft.data import SftDataModule, TokenTable, check, tokenise_once
from micota.sft.eval_during_training import EvalDuringTraining
from micota.sft.module import NonFiniteError, SftModule
from micota.sft.packing import fits
from micota.sft.sharding import Sharding, whole

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}
CHECKPOINTS = "checkpoints"
NON_FINITE = "non_finite.json"
logger = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its import turns tips and notes on


def train(work: Work[TrainSpec]) -> None:
    """Fine-tune; a killed run goes on from its last checkpoint, to the same weights.

    Raises:
        ConfigError: what is asked for cannot run here, or not together.
    """
    check_device(work.config.trainer.accelerator, "trainer")
    if work.config.trainer.accelerator == "gpu" and torch.cuda.device_count() < work.config.trainer.devices:
        raise ConfigError(
            f"trainer.devices={work.config.trainer.devices}, but PyTorch sees {torch.cuda.device_count()} GPUs here; "
            "accepted: at most so many"
        )
    check_launch(work.config)
    close_engine()
    with _watched(work) as watcher:
        if work.config.trainer.world_size > 1 and outer_rank() is None:
            launch(work.config, work.node, work.build, watcher, __name__)
            return
        try:
            fit_here(work, watcher)
        except StoppedError as stopped:
            stop(128 + stopped.signum, str(stopped))


@contextmanager
def _watched(work: Work[TrainSpec]) -> Iterator[Watcher]:
    """A progress bar, the tracker's run, and the log."""
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=None, note="")

        class Watching:
            total = 0
            asked = ""  # what the model answered last, where it is asked on the way

            def begin(self, total: int) -> None:
                self.total = total
                bar.update(task, total=total)

            def step(self, metrics: Mapping[str, float], step: int) -> None:
                if "train/loss" in metrics:
                    bar.update(task, completed=step, note=f"loss {metrics['train/loss']:.3f}{self.asked}")
                elif found := [f"{name} {value:.3f}" for name, value in metrics.items() if name.endswith("/accuracy")]:
                    self.asked = ", " + ", ".join(found)
                work.run.log(metrics, step=step)
                if step % 10 == 0 or step == self.total or "train/loss" not in metrics:
                    logger.info("step %d of %d: %s", step, self.total, dict(metrics))

        yield Watching()


@dataclass(frozen=True)
class Inputs:
    """What a run trains on; ``chosen`` are the indices of the examples that fit."""

    tokenizer: Any
    location: tuple[str, str | None]
    examples: list[Example]
    tokens: TokenTable
    chosen: list[int]

    @property
    def longest(self) -> int:
        return max(self.tokens.lengths[index] for index in self.chosen)


def read_inputs(store: Store, train_node: AnyNode) -> Inputs:
    """Tokenizer, examples and their tokens.

    Raises:
        ConfigError: no example fits.
    """
    spec: TrainSpec = train_node.spec
    location = model_location(store, train_node.inputs["model"])
    tokenizer: Any = load_tokenizer(*location)
    node = train_node.inputs["data"]
    path = input_path(store, node) / DATA
    manifest = store.manifest(node)
    assert manifest is not None
    examples = read_jsonl(path, Example)
    cache = store.root / "cache" / "tokens"
    tokens = tokenise_once(tokenizer, examples, manifest.files[DATA]["sha256"], cache)
    chosen = fits(tokens.lengths, spec.sft.max_tokens)
    if not chosen:
        raise ConfigError(f"no example fits sft.max_tokens={spec.sft.max_tokens}; raise it")
    return Inputs(tokenizer, location, examples, tokens, chosen)


def fit_here(work: Work[TrainSpec], watcher: Watcher) -> None:
    """Train in this process, which is one rank where there are several, and export."""
    spec = work.node.spec
    seed_everything(spec.seed, verbose=False)
    inputs = read_inputs(work.store, work.node)
    data = SftDataModule(inputs.tokens, spec.sft, work.config.trainer, spec.seed, inputs.chosen)
    loaded = _load(inputs, spec, work.config.trainer, work.build.path)
    model, config = loaded.model, work.config.trainer
    use_cpu_kernels(model, config)
    if _leads():
        rehearse(model, inputs.tokenizer, work.build.path / "rehearsal")
        (work.build.path / NON_FINITE).unlink(missing_ok=True)
    model.train()
    watcher.begin(len(data.steps))
    module = SftModule(
        model, spec.sft, config, len(data.steps), watcher.step,
        seed=spec.seed, peak_flops=budget.peak_flops(config), loss=losses.choose(config.loss, _device(config)),
        recompute=ActivationCheckpointing(model, loaded.most_tokens), fill=loaded.fill,
        evaluate=EvalDuringTraining(work.config, work.node, model, inputs.tokenizer) if config.evaluate_every else None,
    )  # fmt: skip
    _fit(work, module, data, inputs.examples)
    _export(work, loaded, inputs.tokenizer)
    num_validation = sum(len(step) for step in data.validation_steps)
    work.build.counts |= {"examples": len(inputs.chosen) - num_validation, "steps": len(data.steps)}
    work.build.counts |= {"dropped_too_long": len(inputs.examples) - len(inputs.chosen)}
    work.build.metrics["loss"] = float(module.last_loss)
    if num_validation:
        work.build.counts["validation_examples"] = num_validation
        work.build.metrics["validation_loss"] = float(module.validation_loss)


@dataclass(frozen=True)
class Loaded:
    """A model to train. Where it is sharded its weights are on the meta device, and ``fill`` reads them later.

    ``adapted`` is peft's model around it, if adapters are trained; ``most_tokens`` is what each kind of activation
    checkpointing is good for.
    """

    model: Any
    adapted: Any | None
    most_tokens: dict[str, int]
    fill: Callable[[torch.device], None] | None


def _load(inputs: Inputs, spec: TrainSpec, config: TrainerConfig, folder: Path) -> Loaded:
    """The model, after checks that need no weights.

    Raises:
        ConfigError: it would not fit the memory or the disk, or data, kernel and model do not fit each other.
    """
    path, revision = inputs.location
    settings: Any = load_config(path, revision)
    kernel = attention.choose(config.attention, _device(config), settings)
    dtype, implementation = DTYPES[spec.precision], attention.implementation(kernel)
    model = loading.skeleton(path, revision, settings, dtype, implementation)
    chosen = [inputs.examples[index] for index in inputs.chosen]
    check([inputs.tokens[i] for i in inputs.chosen], chosen, len(model.get_input_embeddings().weight))
    adapted = None if spec.sft.lora is None else lora.adapt(model, spec.sft.lora, spec.seed)
    shape = budget.Shape.of(model)
    most_tokens = budget.most_tokens(shape, config, inputs.longest)
    budget.check_memory(shape, spec.sft, config, inputs.longest, most_tokens)
    budget.check_disk(folder, shape, config, shutil.disk_usage(folder).free)
    logger.info(
        "attention: %s; activation checkpointing: %s; memory, estimated: %s",
        kernel, ", ".join(f"{kind} to {count} tokens" for kind, count in most_tokens.items()),
        budget.memory_bytes(shape, config, inputs.longest, most_tokens),
    )  # fmt: skip
    if config.world_size > 1:
        return Loaded(model, adapted, most_tokens, partial(_fill, model, inputs.location, dtype, spec.seed))
    model = load_model(path, revision, dtype=dtype, attn_implementation=implementation)
    adapted = None if spec.sft.lora is None else lora.adapt(model, spec.sft.lora, spec.seed)
    return Loaded(model, adapted, most_tokens, None)


def _fill(model: Any, location: tuple[str, str | None], dtype: torch.dtype, seed: int, device: torch.device) -> None:
    """Read this rank's rows of a sharded model, and draw those of its adapters."""
    names = [name.replace(lora.BASE, "") for name, _ in model.named_parameters() if not lora.is_adapter(name)]
    read_base = loading.rows_of(*location, names, dtype)

    def read(name: str, start: int, stop: int) -> torch.Tensor:
        if lora.is_adapter(name):
            return lora.initial(name, model.get_parameter(name).shape, seed)[start:stop]
        return read_base(name.replace(lora.BASE, ""), start, stop)

    loading.fill(model, read, device)


def _fit(work: Work[TrainSpec], module: SftModule, data: SftDataModule, examples: list[Example]) -> None:
    """Run Lightning's loop over all steps that are left."""
    config = work.config.trainer
    folder = work.build.path / CHECKPOINTS
    checkpoints = Checkpoints(folder, config.checkpoint_every, work.node.key, sharded=config.world_size > 1)
    trainer = Trainer(
        accelerator=config.accelerator,
        max_epochs=1,
        callbacks=[checkpoints],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **_placement(config),
    )
    try:
        with checkpoints.watching():
            trainer.fit(module, data, ckpt_path=checkpoints.latest())
    except NonFiniteError as error:
        path = work.build.path / NON_FINITE
        if _leads():
            ids = [examples[index].problem_id for index in error.examples]
            found = {"step": error.step, "loss": str(error.loss), "gradient": str(error.norm), "problem_ids": ids}
            write_text(path, json.dumps(found, indent=2) + "\n")
        raise ConfigError(f"{error}; {path} names the examples of the step") from error


def _placement(config: TrainerConfig) -> dict[str, Any]:
    """Lightning's settings for one device, or for the ranks that are there already."""
    if config.world_size == 1:
        # The weights of bf16-true are loaded as bfloat16; Lightning would make the adapters beside them so, too.
        precision = config.precision if config.precision == "bf16-mixed" else "32-true"
        return {"devices": 1, "precision": precision, "plugins": [StreamedCheckpoints()]}
    environment: ClusterEnvironment = (
        SLURMEnvironment(auto_requeue=False) if "WORLD_SIZE" not in os.environ else TorchElasticEnvironment()
    )
    ranks = {"devices": config.devices, "num_nodes": config.num_nodes, "plugins": [environment]}
    return ranks | {"strategy": Sharding(config)}  # which sees to the precision, too


def _export(work: Work[TrainSpec], loaded: Loaded, tokenizer: Any) -> None:
    """Write the model, merged where adapters were trained, and drop what a resume would have needed."""
    folder, model, writes = work.build.path, loaded.model, _leads()
    if loaded.adapted is not None:
        lora.save(loaded.adapted, folder / "adapter", whole, writes=writes)
        export_streamed(model, tokenizer, folder, lora.merged_weights(loaded.adapted, whole), writes=writes)
    elif work.config.trainer.world_size > 1:
        weights = ((name, whole(weight.detach())) for name, weight in named_weights(model))
        export_streamed(model, tokenizer, folder, weights, writes=writes)
    else:
        export(model, tokenizer, folder)
    if writes:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _leads() -> bool:
    """Whether this rank writes what one alone must."""
    return not outer_rank()


def _device(config: TrainerConfig) -> str:
    return "cuda" if config.accelerator == "gpu" else "cpu"


if __name__ == "__main__":  # one rank of several, started by launch
    run_rank(fit_here)
