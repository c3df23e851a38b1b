"""Data and a model -> the model fine-tuned on it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.artifacts import read_jsonl
from micota.config import ConfigError
from micota.console import progress_bar
from micota.export import export
from micota.graph import TrainSpec
from micota.packing import fits, tokenise
from micota.records import DATA, Example
from micota.sft.data import SftDataModule
from micota.sft.module import SftModule
from micota.stages.inputs import check_device, close_engine, input_path, model_location
from micota.stages.make import Work

DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16}
logger = logging.getLogger(__name__)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its import turns tips and notes on


def train(work: Work) -> None:
    """Fine-tune; a killed run goes on from its last checkpoint, to the same weights."""
    spec: TrainSpec = work.node.spec
    check_device(work.config.trainer.accelerator, "trainer")
    close_engine()
    seed_everything(spec.seed, verbose=False)
    folder, revision = model_location(work.store, work.node.inputs["model"])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, revision=revision)
    examples = read_jsonl(input_path(work.store, work.node.inputs["data"]) / DATA, Example)
    tokens = [tokenise(tokenizer, example) for example in examples]
    sequences = fits(tokens, spec.sft.max_tokens)
    if not sequences:
        raise ConfigError(f"no example fits sft.max_tokens={spec.sft.max_tokens}; raise it")
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, revision=revision, dtype=DTYPES[spec.precision], attn_implementation="sdpa"
    )
    if work.config.trainer.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    data = SftDataModule(sequences, spec.sft, work.config.trainer, spec.seed)
    loss = _fit(work, spec, model, data)
    export(model, tokenizer, work.build.path)
    shutil.rmtree(work.build.path / "checkpoints", ignore_errors=True)
    work.build.counts |= {"examples": len(sequences), "dropped_too_long": len(tokens) - len(sequences)}
    work.build.counts |= {"steps": len(data.steps)}
    work.build.metrics["loss"] = loss


def _fit(work: Work, spec: TrainSpec, model: Any, data: SftDataModule) -> float:
    """Run Lightning's loop over all steps that are left; returns the loss of the last."""
    config = work.config.trainer
    checkpoints = work.build.path / "checkpoints"
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=len(data.steps), note="")

        def report(metrics: Mapping[str, float], step: int) -> None:
            bar.update(task, completed=step, note=f"loss {metrics['train/loss']:.3f}")
            work.run.log(metrics, step=step)
            if step % 10 == 0 or step == len(data.steps):
                logger.info("step %d of %d: %s", step, len(data.steps), dict(metrics))

        module = SftModule(model, spec.sft, config, len(data.steps), report)
        trainer = Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=1,
            callbacks=[
                ModelCheckpoint(
                    dirpath=checkpoints,
                    filename="{step}",
                    every_n_train_steps=config.checkpoint_every,
                    save_top_k=1,
                    monitor=None,
                )
            ],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data, ckpt_path=_latest(checkpoints))
    return float(module.last_loss)


def _latest(checkpoints: Path) -> str | None:
    """The checkpoint with the most steps; two are there when a run was killed while it replaced one by the next."""
    found = sorted(checkpoints.glob("step=*.ckpt"), key=lambda path: int(path.stem.removeprefix("step=").split("-")[0]))
    return str(found[-1]) if found else None
