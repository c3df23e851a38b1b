"""The cost of each kind of node. Every function takes a context and a node, and returns an ``Estimate``."""

from __future__ import annotations

from dataclasses import replace

from micota.config import EngineConfig
from micota.costs.context import Context, Estimate
from micota.costs.sizes import stored_bytes
from micota.costs.speeds import forward_seconds, generation, training_seconds
from micota.graph import CompletionsSpec
from micota.graph.node import AnyNode
from micota.sft.fitting import USABLE, gib, too_large
from micota.sft.memory import memory_bytes, most_tokens
from micota.sft.shape import Shape

BYTES_A_TOKEN = 4.5  # of the text of a completion, with its fields
BYTES_A_ROW = 600  # of one row besides
FEW = 48  # completions at a time with which a GPU mostly waits for its memory
GRADE_S = 0.01  # for one answer by all graders, on one core
SELECT_S = 0.01  # for one completion: grading, filters, near-duplicates
MERGE_S = 27.3 / 3.1e9  # for one weight of the two models; measured on one core, docs/benchmarks.md
NO_GPU = "{needs} needs a GPU, and {machine} has none: name the machine that will run it, as hardware=h100x8"
UNKNOWN = "its size is not known; set shape in its YAML, or download it first"


def generate(context: Context, node: AnyNode) -> Estimate:
    """Completions by an engine."""
    made = context.completions(node)
    estimate = answers(context, node, node.inputs["model"], made.count, made.tokens, node.spec)
    disk = int(made.count * (made.tokens * BYTES_A_TOKEN + BYTES_A_ROW))
    return measured(context, node, replace(estimate, disk=disk, work=made.count * made.tokens))


def answers(
    context: Context, node: AnyNode, model: AnyNode, count: float, tokens: float, spec: CompletionsSpec
) -> Estimate:
    """The cost of completions, wherever they are made. A server runs elsewhere and costs nothing here."""
    machine, config = context.machine, context.config(node)
    engine, generated = config.engine, count * tokens
    if engine.is_elsewhere:
        price = 0.0 if engine.chat is None else engine.chat.price_of(count * context.cost.prompt_tokens, generated)
        return Estimate(generated=generated, price=price)
    shape = context.shape(model, node.runs)
    if shape is None:
        return Estimate(generated=generated, problems=(UNKNOWN,), name=model.name)
    found = generation(
        machine, engine, shape, round(count), context.cost.prompt_tokens, tokens, spec.sampling.max_tokens
    )
    copies = engine.ray.workers if engine.ray is not None else 1
    devices = engine.parts * copies if machine.accelerator == "gpu" else 1
    problems = []
    if engine.device == "cuda" and machine.accelerator == "cpu":
        problems.append(NO_GPU.format(needs="engine.device=cuda", machine=machine.name))
    if machine.accelerator == "gpu" and engine.device == "cpu":
        devices = 0
    if devices > machine.num_devices and engine.ray is None and machine.accelerator == "gpu":
        problems.append(f"{engine.name} on {devices} GPUs, and {machine.name} has {machine.num_devices}")
    if not found.batch:
        problems.append(_no_space(context, engine, shape))
    return Estimate(
        generated=generated, flops=found.flops, seconds=found.seconds, devices=devices, memory=found.memory,
        weights=shape.weights, name=model.name, slow=_slow(context, engine, found.batch, count),
        problems=tuple(problems),
    )  # fmt: skip


def _slow(context: Context, engine: EngineConfig, batch: int, count: float) -> str:
    """A hint where few sequences fit beside the weights, and more would over more GPUs of the machine."""
    parts = 2 * engine.parts
    if engine.name == "hf" or not 0 < batch < min(FEW, count) or parts > context.machine.num_devices:
        return ""
    return f"{batch} completions at a time fit beside the weights; engine.tensor_parallel={parts} would be faster"


def _no_space(context: Context, engine: EngineConfig, shape: Shape) -> str:
    """Weights that leave no space for a sequence, and over how many GPUs they would."""
    machine = context.machine
    stored = 4 if machine.accelerator == "cpu" else 2
    usable = machine.memory_bytes * engine.memory_fraction
    fitting = [n for n in (2, 4, 8) if n <= machine.num_devices and shape.weights * stored / n < 0.8 * usable]
    way = f"engine=vllm engine.tensor_parallel={fitting[0]}" if fitting else "a machine with more memory, as h200x8"
    each = f"{engine.parts} x " if engine.parts > 1 else ""
    weights = gib(shape.weights * stored)
    return f"{weights} GiB of weights with a cache need more than {each}{gib(int(usable))} GiB; what would help: {way}"


def select(context: Context, node: AnyNode) -> Estimate:
    """Completions filtered into data, or data mixed, on the CPU."""
    made = context.examples(node)
    graded = context.completions(node.inputs["completions"]).count if "completions" in node.inputs else 0.0
    work = graded or made.count
    disk = int(made.count * (made.tokens * BYTES_A_TOKEN + BYTES_A_ROW))
    return measured(context, node, Estimate(seconds=graded * SELECT_S, disk=disk, work=work))


def train(context: Context, node: AnyNode) -> Estimate:
    """Fine-tuning: arithmetic of the packed examples over the share of the peak, memory by ``micota.sft.memory``."""
    machine, spec, made = context.machine, node.spec, context.examples(node.inputs["data"])
    shape = context.trained_shape(node)
    each = min(spec.sft.max_tokens, made.tokens + context.cost.prompt_tokens)
    tokens = made.tokens
    if spec.objective is not None and spec.objective.sampling is not None:
        tokens = min(tokens, spec.objective.sampling.max_tokens)
        each = tokens + context.cost.prompt_tokens
    steps = spec.sft.max_steps
    passes = made.count * spec.sft.epochs if steps is None else steps * spec.sft.batch_size
    if shape is None:
        return Estimate(trained=passes * each, problems=(UNKNOWN,), name=node.inputs["model"].name)
    longest = spec.sft.max_tokens
    trainer = context.with_devices(context.config(node), shape, longest).trainer
    limits = most_tokens(shape, trainer, longest, machine.memory_bytes)
    kind = [*limits][-1]
    teacher, flops = context.teacher_shape(node), shape.flops([round(each)], round(tokens))
    forward = teacher.forward_flops([each], tokens) if teacher else 0.0
    sampled = _sampled(context, node, shape, passes, tokens)
    if spec.sft.max_flops is not None:
        passes = spec.sft.max_flops / (flops + forward + sampled.flops / max(1, passes))
        sampled = _sampled(context, node, shape, passes, tokens)
    flops, of_teacher = passes * flops, passes * forward
    usable = int(USABLE * machine.memory_bytes)
    large = too_large(shape, spec.sft, trainer, longest, limits, usable, with_parts=False)
    problems = [large] if large else []
    if "teacher" in node.inputs and teacher is None:
        problems.append(f"{node.inputs['teacher'].name}: {UNKNOWN}")
    if trainer.accelerator == "gpu" and machine.accelerator == "cpu":
        problems = [NO_GPU.format(needs=f"trainer={trainer.name}", machine=machine.name)]
    elif trainer.num_devices > machine.num_devices and trainer.accelerator == machine.accelerator == "gpu":
        problems.append(
            f"{node.name}: trainer.devices={trainer.num_devices}, and {machine.name} has {machine.num_devices}"
        )
    stored = stored_bytes(node)
    states = 2 if trainer.precision == "bf16-true" else 4
    return measured(context, node, Estimate(
        trained=passes * each,
        generated=sampled.generated,
        flops=flops + of_teacher + sampled.flops,
        seconds=sampled.seconds
        + training_seconds(machine, trainer, flops, kind)
        + training_seconds(machine, trainer, of_teacher, "none"),
        devices=trainer.world_size,
        memory=sum(memory_bytes(shape, trainer, longest, limits).values()),
        disk=shape.weights * stored,
        scratch=2 * 3 * states * shape.trained,  # as check_disk: two checkpoints, of which one replaces the other
        work=passes * (tokens + context.cost.prompt_tokens),
        weights=shape.weights if spec.sft.lora is None else shape.weights - shape.trained,
        name=node.name,
        problems=tuple(problems),
    ))  # fmt: skip


def _sampled(context: Context, node: AnyNode, shape: Shape, count: float, tokens: float) -> Estimate:
    """The answers of ``tokens`` each that a student samples while it trains; nothing for other objectives."""
    objective = node.spec.objective
    if objective is None or objective.sampling is None:
        return Estimate()
    engine, prompt = replace(context.config(node).engine, name="hf"), context.cost.prompt_tokens
    made = generation(context.machine, engine, shape, round(count), prompt, tokens, objective.sampling.max_tokens)
    return Estimate(generated=count * tokens, flops=made.flops, seconds=made.seconds)


def merge(context: Context, node: AnyNode) -> Estimate:
    """A merge streams tensors: its memory is that of a few slices, in float32. The time is that of a CPU."""
    needs_gpu = context.config(node).merge.device == "cuda" and context.machine.accelerator == "cpu"
    problems = (NO_GPU.format(needs="merge.device=cuda", machine=context.machine.name),) if needs_gpu else ()
    shape = context.shape(node)
    if shape is None:
        return Estimate(problems=(UNKNOWN, *problems), name=node.name)
    written = 4 if getattr(node.spec, "dtype", "auto") == "float32" else 2
    return measured(context, node, Estimate(
        seconds=2 * shape.weights * MERGE_S, disk=shape.weights * written, work=1, weights=shape.weights,
        name=node.name, problems=problems,
    ))  # fmt: skip


def grade(context: Context, node: AnyNode) -> Estimate:
    """Answers graded on the CPU."""
    count = context.completions(node.inputs["completions"]).count
    return measured(context, node, Estimate(seconds=count * GRADE_S, disk=int(count * BYTES_A_ROW), work=count))


def likelihood(context: Context, node: AnyNode) -> Estimate:
    """One forward pass over the data."""
    made = context.examples(node.inputs["data"])
    return forward(context, node, made.count, made.tokens + context.cost.prompt_tokens)


def rank_shift(context: Context, node: AnyNode) -> Estimate:
    """One forward pass over the answers."""
    made = context.completions(node.inputs["completions"])
    return forward(context, node, made.count, made.tokens + context.cost.prompt_tokens)


def forward(context: Context, node: AnyNode, count: float, tokens: float) -> Estimate:
    """A forward pass of the model of a node over ``count`` sequences of ``tokens`` each."""
    machine, model, trainer = context.machine, node.inputs["model"], context.config(node).trainer
    shape = context.shape(model)
    if shape is None:
        return Estimate(problems=(UNKNOWN,), name=model.name)
    seconds, flops = forward_seconds(machine, shape, count * tokens)
    stored = 4 if node.spec.precision == "32-true" else 2
    memory = shape.weights * stored + 2 * 2**30 * (machine.accelerator == "gpu")
    problems = []
    if trainer.accelerator == "gpu" and machine.accelerator == "cpu":
        problems = [NO_GPU.format(needs=f"trainer={trainer.name}", machine=machine.name)]
    elif memory > USABLE * machine.memory_bytes:
        problems = [
            f"{node.name}: {gib(memory)} GiB on one device, and {gib(int(USABLE * machine.memory_bytes))} can be used"
        ]
    return measured(context, node, Estimate(
        flops=flops, seconds=seconds, devices=1, memory=memory, disk=int(count * 200), work=count * tokens,
        weights=shape.weights, name=model.name, problems=tuple(problems),
    ))  # fmt: skip


def measured(context: Context, node: AnyNode, estimate: Estimate) -> Estimate:
    """The estimate with the seconds that earlier runs on the same machine took, if there are any."""
    seconds = context.measured.seconds(node.stage, estimate.weights, estimate.work)
    return estimate if seconds is None else replace(estimate, seconds=seconds, is_measured=True)


def determinism(context: Context, node: AnyNode) -> Estimate:
    """Every repetition answers the problems. Small batches take longest: at least the time of their answers alone."""
    spec = node.spec
    count = spec.problems.limit * spec.answers.sampling.num_samples
    tokens = min(spec.answers.sampling.max_tokens, context.cost.middle_tokens)
    one, alone = (answers(context, node, node.inputs["model"], n, tokens, spec.answers) for n in (count, 1))
    others = 2 + len(spec.num_threads) + len(spec.engines)
    batches = [max(one.seconds, alone.seconds * count / rows) for rows in spec.batch_sizes]
    runs = others + len(batches)
    return measured(context, node, replace(
        one,
        generated=one.generated * runs,
        flops=one.flops * runs,
        seconds=one.seconds * others + sum(batches),
        price=one.price * runs,
        work=runs * count,
        disk=BYTES_A_ROW * runs,
    ))  # fmt: skip
