"""Training examples as the model sees them, with what is supervised marked: ``train.py show_samples=3``."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.text import Text

from micota.artifacts.store import Store
from micota.config import TrainConfig
from micota.console import open_console
from micota.errors import ArtifactError
from micota.graph.node import AnyNode
from micota.graph.specs import DataSpec
from micota.runtime.execute import perform
from micota.runtime.plan import missing, pending, tasks_of
from micota.sft.packing import IGNORED, Tokens, collate
from micota.stages.train import read_inputs
from micota.visible import visible

OPEN, CLOSE = "⟦", "⟧"  # around supervised spans


def show_samples(config: TrainConfig, node: AnyNode) -> None:
    """Print the first ``show_samples`` examples that ``node`` is trained on.

    Nothing is made but the cache of tokens and the data, where they need no model: rows of the user, or completions
    that are there.

    Raises:
        ArtifactError: the data needs a model; the text has the commands that make it.
    """
    store, console = Store(config.artifacts), open_console()
    todo = pending(store, [child for child in node.inputs.values() if not child.is_source])
    if any(not isinstance(child.spec, DataSpec) for child in todo):
        raise ArtifactError(missing(config, tasks_of(todo), [node]))
    for task in tasks_of(todo):
        perform(config, store, task, console)
    inputs = read_inputs(store, node)
    for index in inputs.chosen[: config.show_samples]:
        tokens: Tokens = inputs.tokens[index]
        title = f"problem {visible(inputs.examples[index].problem_id)}: {len(tokens.ids)} tokens, "
        console.rule(Text(title + f"{tokens.num_supervised} supervised"))
        console.print(marked(inputs.tokenizer, tokens))
    dropped = len(inputs.examples) - len(inputs.chosen)
    console.print(f"{len(inputs.chosen)} examples, {dropped} too long; supervised: {OPEN}...{CLOSE}")


def marked(tokenizer: Any, tokens: Tokens) -> Text:
    """All of an example, special tokens too, with marks taken from the labels that training uses."""
    labels = collate([tokens], len(tokens.ids))["labels"][0].tolist()
    learnt = [False, *(label != IGNORED for label in labels[:-1])]  # a label stands where its token is predicted
    text = Text()
    for is_learnt, pairs in groupby(zip(learnt, tokens.ids, strict=True), key=lambda pair: pair[0]):
        words = visible(tokenizer.decode([token for _, token in pairs], skip_special_tokens=False))
        text.append(f"{OPEN}{words}{CLOSE}" if is_learnt else words, "bold green" if is_learnt else "dim")
    return text
