"""The schema of the tags around a thought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from micota.config.fields import plain


@dataclass(kw_only=True)
class ThinkingConfig:
    """The tags around the thought of a model, before its answer.

    The rendered prompt shows whether the chat template writes the opening tag, so that it is not in the completion.
    """

    open: str | None = plain(
        None, about="The tag before the thought; null: the model does not think in tags.", results=True
    )
    close: str | None = plain(None, about="The tag after the thought.", results=True)

    def conflicts(self) -> Iterator[str]:
        if bool(self.open) != bool(self.close):
            yield f"open={self.open!r}, close={self.close!r}; accepted: both tags, or neither"
