"""generate.py show_prompts=N: the prompts of a model, before hours are spent on its answers."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from micota import graph
from micota.config import GenerateConfig
from micota.data.chat_template import use_template
from micota.data.prompts import prompt_hash, prompt_text, token_ids
from micota.data.sources import load_questions, model_folder
from micota.errors import ConfigError
from micota.graph import CompletionsSpec
from micota.graph.models import source_of
from micota.graph.node import AnyNode
from micota.runtime.execute import naming_keys
from micota.visible import visible


def show_prompts(config: GenerateConfig, console: Console) -> None:
    """Print the first prompts of each generator of the data, exactly as rendered.

    Raises:
        ConfigError: the data have no generator, because they are rows of a file.
    """
    data = graph.data(config, config.data, matched=False)
    completions = [node.inputs["completions"] for node in (data, *data.inputs.values()) if "completions" in node.inputs]
    if not completions:
        raise ConfigError(
            f"show_prompts={config.show_prompts}: data={data.name} are rows of a file, which no model answers; "
            "accepted: a recipe with a generator, as data=strong"
        )
    with naming_keys(config):
        for node in completions:
            _show(node, config.show_prompts, console)


def _show(node: AnyNode, number: int, console: Console) -> None:
    from micota.pretrained import load_tokenizer  # which imports torch

    spec: CompletionsSpec = node.spec
    generator = source_of(node.inputs["model"])
    bundled = generator.spec.path.startswith("bundled:")
    revision = None if bundled else generator.spec.revision
    tokenizer = load_tokenizer(model_folder(generator.spec.path), revision)
    use_template(tokenizer, generator.spec)
    for problem in load_questions(spec.questions)[:number]:
        text = prompt_text(tokenizer, problem.problem, spec.prompt)
        num_tokens = len(token_ids(tokenizer, text))
        head = f"{node.name}, problem {visible(problem.id)}: {num_tokens} tokens, hash {prompt_hash(text)}"
        console.print(Text(head, "bold"))
        console.print(Text(visible(text)))
