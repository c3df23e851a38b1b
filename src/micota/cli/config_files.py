"""Mistakes in configs that Hydra reports by general errors, as lines that name the file or the key."""

from __future__ import annotations

import traceback

import yaml  # type: ignore[import-untyped]

HYDRA_MESSAGES = {  # of a plain ValueError: the beginning of its text, and the accepted form
    "Invalid defaults list in ": "defaults: [OPTION, GROUP: OPTION, _self_]",
    "Config group override must be a string or a list": "GROUP=OPTION, and PART.KEY=VALUE below it",
}


def mistake_in(error: BaseException) -> str | None:
    """Return the line about a file that is no YAML or no UTF-8, or about its defaults; None for other errors."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return (
            f"{mark.name}:{mark.line + 1}: not valid YAML ({error.problem}); accepted: KEY: VALUE, indented by blanks"
        )
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.name}: not valid YAML ({error.reason}); accepted: text in UTF-8"
    if isinstance(error, UnicodeDecodeError):
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"] == "hydra._internal.core_plugins.file_config_source":
                # The error has no file name, and Hydra has no API that returns it.
                return f"{frame.f_locals['full_path']}: not valid YAML ({error}); accepted: text in UTF-8"
    accepted = next((words for text, words in HYDRA_MESSAGES.items() if str(error).startswith(text)), None)
    return f"{error}; accepted: {accepted}" if accepted and type(error) is ValueError else None
