"""The cost of a merge sweep, with what the student makes of its merges."""

from __future__ import annotations

from dataclasses import replace

from micota.costs.context import Context, Estimate
from micota.costs.speeds import forward_seconds, training_seconds
from micota.costs.stages import BYTES_A_TOKEN, MERGE_S, UNKNOWN, answers, measured
from micota.graph.node import AnyNode
from micota.sft.memory import most_tokens


def merge_sweep(context: Context, node: AnyNode) -> Estimate:
    """The TA before and after SFT and every merge answer the problems; each merge is made in memory first. Then the
    student reads the right answers of each merge, or is tuned on them and answers other problems."""
    spec = node.spec
    points = spec.num_merges
    problems = context.num_problems(spec.problems, context.config(node))
    tokens = min(spec.answers.sampling.max_tokens, context.cost.middle_tokens)
    one = answers(
        context, node, node.inputs["tuned"], problems * spec.answers.sampling.num_samples, tokens, spec.answers
    )
    merging = 2 * one.weights * MERGE_S * points
    merges = measured(context, node, replace(
        one,
        generated=one.generated * (points + 2),
        flops=one.flops * (points + 2),
        seconds=one.seconds * (points + 2) + merging,
        work=(points + 2) * problems,
        disk=int(one.generated * (points + 2) * BYTES_A_TOKEN),
    ))  # fmt: skip
    if spec.student is None:
        return merges
    each = _student(context, node, problems * context.cost.kept_share, tokens)
    return replace(
        merges,
        generated=merges.generated + points * each.generated,
        trained=points * each.trained,
        flops=merges.flops + points * each.flops,
        seconds=merges.seconds + points * each.seconds,
        disk=merges.disk + points * each.disk,
        problems=(*merges.problems, *each.problems),
    )


def _student(context: Context, node: AnyNode, examples: float, tokens: float) -> Estimate:
    """What the student makes of one merge, whose ``examples`` have ``tokens`` each."""
    student, model, machine = node.spec.student, node.inputs["student"], context.machine
    shape = context.shape(model)
    if shape is None:
        return Estimate(problems=(f"{model.name}: {UNKNOWN}",), name=model.name)
    each = tokens + context.cost.prompt_tokens
    if student.train is None:
        seconds, flops = forward_seconds(machine, shape, examples * each)
        return Estimate(seconds=seconds, flops=flops, disk=int(examples * tokens * BYTES_A_TOKEN))
    sft, config = student.train.sft, context.config(node)
    trained = sft.max_steps * sft.batch_size * each
    flops = sft.max_steps * sft.batch_size * shape.flops([round(each)], round(tokens))
    trainer = context.with_devices(replace(config, trainer=config.trainer_of(config.student)), shape, sft.max_tokens)
    kind = [*most_tokens(shape, trainer.trainer, sft.max_tokens, machine.memory_bytes)][-1]
    problems = context.num_problems(student.scores.problems, config)
    said = answers(context, node, model, problems, min(student.answers.sampling.max_tokens, tokens), student.answers)
    stored = 4 if student.train.precision == "32-true" else 2
    return Estimate(
        generated=said.generated,
        trained=trained,
        flops=flops + said.flops,
        seconds=training_seconds(machine, trainer.trainer, flops, kind) + said.seconds,
        disk=shape.weights * stored,
        problems=said.problems,
    )
