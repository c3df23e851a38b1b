"""What limits thoughts, before a model is loaded."""

from __future__ import annotations

from micota.config import Config
from micota.data.prompts import check_thought_limit
from micota.graph.node import AnyNode


def check(config: Config, node: AnyNode) -> None:
    """Refuse to end thoughts without tags, or whose model renders and continues prompts elsewhere.

    Raises:
        ConfigError: the text names the setting.
    """
    check_thought_limit(node.spec.sampling.max_thought_tokens, node.spec.thinking, node.spec.engine)
