"""The cost of storing the log-probabilities of a teacher."""

from __future__ import annotations

from dataclasses import replace

from micota.costs.context import Context, Estimate
from micota.costs.stages import forward
from micota.costs.table import number
from micota.graph.node import AnyNode


def targets(context: Context, node: AnyNode) -> Estimate:
    """One forward pass over the data, and the disk of the numbers at each of its learnt tokens."""
    made, spec = context.examples(node.inputs["data"]), node.spec
    learnt = min(spec.max_tokens, made.tokens)
    found = forward(context, node, made.count, learnt + context.cost.prompt_tokens)
    disk = int(made.count * learnt * spec.row_bytes())
    note = (
        f"The stored probabilities of {node.inputs['model'].name} at {node.inputs['data'].name} take {number(disk)}B."
    )
    return replace(found, disk=disk, note=note)
