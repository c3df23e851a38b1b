"""Errors that are the user's to mend, or the machine's. Any other exception is a bug and keeps its traceback."""


class UserError(Exception):
    """What the command line prints as one line, with exit code 2: its text names the key or file, the value seen and
    the accepted form, or the command that helps."""


class ConfigError(UserError):
    """A mistake in the configuration; the text names the key, the value seen and the accepted form."""


class ArtifactError(UserError):
    """An artifact is missing, damaged, of another schema, or being made by another run; the text says what to do."""


class SourceError(UserError):
    """Problems or a model cannot be read; the text names the file or hub id and what was expected."""


class ExportError(UserError):
    """What was written does not read back as what it should be."""


class StageError(UserError):
    """A stage that ran in a process of its own failed; the text has the end of what it printed."""
