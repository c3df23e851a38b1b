"""Schemas of where results go: the tracker of runs, and the hub."""

from __future__ import annotations

from dataclasses import dataclass

from micota.config.fields import choice, plain, positive, where, words

PROJECT = "a text of at most 128 characters, without any of / \\ # ? % :"


def is_project(text: str) -> bool:
    """Whether W&B takes a text as the name of a project."""
    return bool(text.strip()) and len(text) <= 128 and text.isprintable() and not set(text) & set("/\\#?%:")


@dataclass(kw_only=True)
class TrackerConfig:
    """The tracker of runs."""

    name: str = choice("wandb", "none", about="The tracker.", results=False)
    project: str = where(PROJECT, is_project, "micota", about="The project in W&B.", results=False)
    entity: str | None = words(None, about="The owner of the project; null: your default.", results=False)
    mode: str = choice(
        "online",
        "offline",
        default="online",
        about="offline: runs are kept below the artifacts until wandb sync.",
        results=False,
    )
    run: str = choice(
        "auto",
        "task",
        "command",
        default="auto",
        about="What is one run: each task of a command, or the whole command, also where nothing is to be made; auto: "
        "the command within a sweep of W&B, else the task.",
        results=False,
    )
    table_rows: int = positive(
        200, about="The most rows of a table of answers or examples.", unit="rows", results=False
    )
    log_models: bool = plain(
        False, about="true: models are uploaded too, not only the artifacts that they were made from.", results=False
    )


@dataclass(kw_only=True)
class HubConfig:
    """The repository of an upload to the Hugging Face hub."""

    repo: str | None = where(
        "null, or ACCOUNT/NAME",
        lambda value: value is None or len([*filter(None, value.split("/"))]) == 2,
        None,
        about="Its name; null: NAME-KEY of the artifact, in the account of the token. push_to_hub=ACCOUNT/NAME wins.",
        results=False,
    )
    private: bool = plain(True, about="true: only the account can read it.", results=False)
