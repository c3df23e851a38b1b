"""The training loop, from top to bottom: model, data, module, callbacks, ``Trainer.fit``, export.

Lightning's Trainer runs the loop, a LightningModule computes a step, callbacks do the rest. Where this package departs
from the defaults of Lightning, the reason is here:

- **Manual optimisation, a whole optimiser step per ``training_step``.** The loss is divided by the supervised tokens of
  the whole step, over micro-batches and ranks. Lightning's accumulation averages the means of micro-batches, which
  weighs a token by its micro-batch. Lightning's gradient clipping would not return the norm either.
- **All epochs are one Lightning epoch** (:class:`micota.sft.data.SftDataModule`). A run then resumes in the middle of
  an epoch: the sampler starts at the step of the checkpoint and keeps the length of the whole run, as Lightning adds
  the finished steps to its count.
- **Metrics are what ``training_step`` returns**, and callbacks receive them. ``self.log`` would turn them into float32.
- **Checkpoints are a callback of this package** (:class:`micota.sft.checkpoints.Checkpoints`). ``ModelCheckpoint``
  writes under the final name, so that a killed run leaves a broken file, and does not save on a signal.
- **A plugin writes checkpoints to the file directly** (:class:`micota.sft.checkpoints.StreamedCheckpoints`). Lightning
  builds the file in memory first: three times the weights.
- **Signal handlers are set on train start** (:class:`micota.sft.callbacks.StopOnSignal`). Lightning sets its handlers
  just before; they broadcast from within the handler and stop without a checkpoint.
- **The strategy extends ``ModelParallelStrategy``** (:class:`micota.sft.sharding.Sharding`): it loads checkpoints
  without frozen weights, which no checkpoint has, keeps offloaded weights on the CPU, and chooses the backend of the
  process group.
- **The cluster environment is passed in** (:func:`micota.sft.sharding.devices`), and SLURM's requeueing is off: the
  ranks run already, and the same command resumes a stopped run.
- **The process group is destroyed at the end.** Lightning does so for NCCL alone, and threads of gloo that are alive
  when the process exits can abort it.
- **One GPU is a mesh of one** (:attr:`micota.config.TrainerConfig.is_sharded`): weights, checkpoints and export take
  the path of several GPUs.
- **``bf16-true`` is ``32-true`` for Lightning on one CPU**: the weights are loaded as bfloat16, and Lightning would
  cast the float32 adapters too. In shards, a policy of FSDP2 sets the mixed precision.
- **Autocast runs without its cache**, which would keep a copy of all weights until the step ends.
- **Batches stay on the CPU** (``transfer_batch_to_device``): micro-batches move one at a time, and kernels need the
  lengths of sequences on the CPU. Lightning's distributed sampler is off: the data module divides steps among ranks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from torch import distributed

from micota.artifacts.store import discard
from micota.config import Config, TrainerConfig
from micota.config.optimizers import OPTIMIZERS
from micota.errors import ConfigError
from micota.export import export, export_streamed, whole_weights
from micota.graph import TrainSpec
from micota.graph.node import Node
from micota.sft import fused, lora, losses
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.best import BestWeights
from micota.sft.callbacks import StepMetrics, StopOnSignal, Validation
from micota.sft.checkpoints import Checkpoints
from micota.sft.continuing import CHECKPOINTS, check_shorter
from micota.sft.data import Inputs, SftDataModule
from micota.sft.device import peak_flops
from micota.sft.eval_during_training import EvalDuringTraining
from micota.sft.failures import RecordFailure
from micota.sft.kept_models import KeptModels
from micota.sft.loading import Loaded, load
from micota.sft.module import NonFiniteError, SftModule
from micota.sft.progress import Progress
from micota.sft.rollouts import RolloutDataModule, Rollouts
from micota.sft.sharding import devices, whole
from micota.sft.skeletons import device_of, shape_at
from micota.sft.spending import Spending, expected_steps, most_steps
from micota.sft.targets import StoredTargets
from micota.sft.teacher import DistillationObjective, opened
from micota.sft.writing import Writing

BEST = "best"  # weights
ROLLOUTS = "rollouts"  # answers of the student, by round
MODELS = "models"  # of single steps
NON_FINITE = "non_finite.json"
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its import turns tips and notes on


@dataclass(frozen=True)
class Fitted:
    """The results of training besides the weights.

    ``validation`` has the metrics of the written weights, empty without validation examples; ``best_step`` is the step
    of these weights where they are not those after the last. ``flops`` are those of training, the teacher and answers.
    """

    steps: int
    examples: int
    validation_examples: int
    loss: float
    validation: dict[str, float]
    best_step: int | None
    flops: dict[str, float]


def fit(
    config: Config, node: Node[TrainSpec], inputs: Inputs, folder: Path, progress: Progress, *, writes: bool
) -> Fitted:
    """Train the model of ``node`` in this process (one rank of possibly several), and export it to ``folder``.

    A run whose checkpoint is in ``folder`` resumes from it.

    Args:
        writes: whether this rank writes the files that are not sharded; true on exactly one rank.

    Raises:
        ConfigError: the model does not fit the memory, the disk or the data, or the loss is not finite.
        StoppedError: a signal ended training, and a checkpoint is saved.
    """
    spec, trainer_config = node.spec, config.trainer
    seed_everything(spec.seed, verbose=False)

    # Checks of data, memory and disk come before the weights are read, and the export is rehearsed before step 1.
    data = data_of(config, node, inputs, folder, writes=writes)
    loaded = load(inputs, spec, trainer_config, folder, config.engine.embedded_rows, writes=writes)
    fused.set_up(loaded.model, trainer_config)
    if writes:
        (folder / NON_FINITE).unlink(missing_ok=True)

    objective = objective_of(spec, trainer_config, loaded, inputs)
    reducing = replace(trainer_config, gradient_reduction=loaded.reduction)
    spending = Spending(
        loaded.shape, shape_at(inputs.teacher) if inputs.teacher else None, spec.sft.max_flops,
        samples=objective.samples,
    )  # fmt: skip
    module = SftModule(objective, spec.sft, reducing, len(data.steps), loaded.fill, spending)
    metrics = StepMetrics(progress, loaded.shape, peak_flops(trainer_config))
    validation = Validation(metrics, data, trainer_config.validate_every, spec.sft.best)
    best = BestWeights(validation, spec.sft.best, folder / BEST) if spec.sft.best.by != "none" else None
    callbacks: list[Callback] = [RecordFailure(), metrics, spending, validation, *([best] if best else [])]
    callbacks += optional_callbacks(config, node, inputs, folder, loaded, metrics, writes=writes)

    checkpoints = checkpoints_of(config, node, folder, len(data.steps))
    start = checkpoints.latest() or _end_of_shorter(node, trainer_config, checkpoints, len(data.steps))
    progress.begin(data.expected_steps)
    try:
        trainer = train(module, data, callbacks, checkpoints, start, trainer_config)
    except NonFiniteError as error:
        if writes:
            error.write(folder / NON_FINITE, inputs)
        raise ConfigError(f"{error}; {folder / NON_FINITE} names the examples of the step") from error

    write_model(loaded, inputs.tokenizer, folder, trainer_config, writes=writes)
    if distributed.is_initialized():
        trainer.strategy.barrier()
        distributed.destroy_process_group()
    if writes:  # a run that is killed before the manifest is written goes on from them
        discard(folder, [BEST, *([] if trainer_config.keep_checkpoint else [CHECKPOINTS])])
    num_validation = sum(len(step) for step in data.validation_steps)
    return Fitted(
        steps=trainer.global_step,
        examples=len(inputs.chosen) - (num_validation if inputs.validation is None else 0),
        validation_examples=num_validation,
        loss=float(module.last_loss),
        validation=(best or validation).metrics,
        best_step=best.step if best else None,
        flops={name: count for name, count in spending.flops.items() if count},
    )


def train(
    module: SftModule,
    data: SftDataModule,
    callbacks: list[Callback],
    checkpoints: Checkpoints,
    start: str | None,
    config: TrainerConfig,
) -> Trainer:
    """Run the steps from the checkpoint ``start`` on, or all of them."""
    signals = StopOnSignal()
    trainer = Trainer(
        accelerator=config.accelerator,
        max_epochs=1,
        callbacks=[*callbacks, signals, checkpoints],  # checkpoints last: they save the state of the others
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **devices(config, checkpoints.writing),
    )
    with signals.restoring_handlers(), checkpoints.writing:
        trainer.fit(module, data, ckpt_path=start)
    return trainer


def optional_callbacks(
    config: Config,
    node: Node[TrainSpec],
    inputs: Inputs,
    folder: Path,
    loaded: Loaded,
    metrics: StepMetrics,
    *,
    writes: bool,
) -> list[Callback]:
    """What else happens between steps: evaluation on benchmarks, and models of single steps."""
    trainer, callbacks = config.trainer, list[Callback]()
    if trainer.evaluate_every:
        callbacks.append(EvalDuringTraining(metrics, config, node, loaded.model, inputs.tokenizer))
    if every := trainer.save_model_every:
        write = partial(write_model, loaded, inputs.tokenizer, config=trainer, writes=writes, streams=True)
        callbacks.append(KeptModels(folder / MODELS, every, trainer.keep_models, write))
    return callbacks


def checkpoints_of(config: Config, node: Node[TrainSpec], folder: Path, num_steps: int) -> Checkpoints:
    """The checkpoints of a run below ``folder``."""
    trainer = config.trainer
    return Checkpoints(
        folder / CHECKPOINTS,
        trainer.checkpoint_every,
        node.key,
        sharded=trainer.is_sharded,
        converts=OPTIMIZERS[node.spec.sft.optimizer].moment_bytes == 4,
        last=num_steps if trainer.keep_checkpoint else None,
        writing=Writing(is_async=trainer.async_checkpoints),
    )


def data_of(config: Config, node: Node[TrainSpec], inputs: Inputs, folder: Path, *, writes: bool) -> SftDataModule:
    """The steps of the run: on the answers of the data, or on those that the student samples."""
    spec = node.spec
    most = expected = None
    if spec.sft.max_flops is not None:
        sizes, teacher = shape_at(inputs.location), shape_at(inputs.teacher) if inputs.teacher else None
        most = most_steps(inputs, spec.sft, sizes)
        expected = expected_steps(inputs, spec.sft, sizes, teacher)
    given: tuple[Any, ...] = (
        inputs.tokens, spec.sft, config.trainer, spec.seed, inputs.chosen, inputs.divided_by, inputs.border,
        inputs.validation, most, [example.source for example in inputs.examples], expected,
    )  # fmt: skip
    if inputs.answer_tokens is None:
        module = SftDataModule(*given)
        stored = [one for one in inputs.teachers if isinstance(one, StoredTargets)]
        module.targets = stored[0].first_rows if stored else None  # those of others on the same data are the same
        return module
    assert spec.objective is not None
    data, rows = RolloutDataModule(*given), config.engine.embedded_rows
    data.rollouts = Rollouts(
        spec.objective, inputs.tokenizer, spec.seed, folder / ROLLOUTS, inputs.problems, rows, writes=writes
    )
    return data


def objective_of(spec: TrainSpec, config: TrainerConfig, loaded: Loaded, inputs: Inputs) -> losses.Objective:
    """The model with its loss, and with the teacher where it has one."""
    loss = losses.choose(config.loss, device_of(config))
    checkpointing = ActivationCheckpointing(loaded.model, loaded.most_tokens, compiled=config.compile)
    model = loaded.model.train()
    if spec.objective is None:
        return losses.Objective(model, loss, checkpointing)
    openers = [partial(opened, one, spec.precision, config) for one in inputs.teachers]
    return DistillationObjective(model, spec.objective, openers, checkpointing)


def _end_of_shorter(
    node: Node[TrainSpec], trainer: TrainerConfig, checkpoints: Checkpoints, num_steps: int
) -> str | None:
    """The last checkpoint of the run that ``trainer.continue_from`` names."""
    if trainer.continue_from is None:
        return None
    folder = Path(trainer.continue_from)
    return checkpoints.of_shorter(folder, check_shorter(folder, node, num_steps).key)


def write_model(
    loaded: Loaded, tokenizer: Any, folder: Path, config: TrainerConfig, *, writes: bool, streams: bool = False
) -> None:
    """Write the model, with its adapters merged if it has any. Every rank must call this function.

    Args:
        streams: leave the weights in memory as they are, for training that goes on.
    """
    model, source, dtype = loaded.model, loaded.source, loaded.export_dtype
    if loaded.adapted is not None:
        lora.save(loaded.adapted, folder / "adapter", whole, writes=writes)
        weights = lora.merged_weights(loaded.adapted, whole, dtype, loaded.base)
        export_streamed(model, tokenizer, folder, weights, writes=writes, source=source, dtype=dtype)
    elif config.is_sharded or streams:
        weights = whole_weights(model, whole)
        export_streamed(model, tokenizer, folder, weights, writes=writes, source=source, dtype=dtype)
    else:
        export(model, tokenizer, folder, source, dtype)
