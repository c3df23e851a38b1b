"""The upload of what a command makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text

from micota.artifacts.store import Store
from micota.config import PushConfig
from micota.console import open_console
from micota.data.hub import check_hub, push
from micota.graph.node import AnyNode
from micota.runtime.distributed import outer_rank


@contextmanager
def uploading(config: PushConfig, node: AnyNode) -> Iterator[None]:
    """Check the hub before the block, which makes ``node``, and upload the node after it, if the config says so.

    Raises:
        ConfigError: the token is not valid, or the hub refuses the upload.
    """
    if not config.push_to_hub or config.plan or outer_rank():
        yield
        return
    account = check_hub(config.push_to_hub)
    yield
    address = push(config, account, Store(config.artifacts), node)
    open_console().print(Text(f"uploaded: {address}"))
