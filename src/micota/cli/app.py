"""The command line: find the command, compose and check its config, run it, turn user errors into one line.

Nothing here imports torch, so that ``--help``, ``--cfg job`` and ``plan=true`` are fast.
"""

from __future__ import annotations

import difflib
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import micota.cli.quick_hydra
import micota.stages.registry  # noqa: F401  (every command knows all stages)
from micota import __version__, errors
from micota.cli import sweeps
from micota.cli.arguments import COMPLETION, commands_for, completing
from micota.cli.arguments import read as arguments
from micota.cli.help import command_help, overview
from micota.cli.inputs import fingerprint_inputs
from micota.cli.mistakes import is_users, one_line
from micota.cli.paths import settle_paths
from micota.cli.printing import print_anywhere, printing_no_keys
from micota.config import (
    COMMANDS,
    MERGE_METHODS,
    SCHEMAS,
    TOOLS,
    Call,
    Command,
    Config,
    DataConfig,
    apply_short_keys,
    conf_folder,
    parse,
)
from micota.config.local_files import no_folder, text_of_file
from micota.config.models import local_path, models_of
from micota.config.roles import as_typed, for_hydra, schema_node
from micota.console import quieten
from micota.errors import USER_ERROR, ConfigError
from micota.graph.stage import function
from micota.processes import end_at_interrupt, end_with_starter, note_sigterm
from micota.secrets import redacted
from micota.tracking import offline_runs, sync_command

# With its schema below it, a config can be overridden in keys that no YAML mentions, and a typo is found in any.
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=schema_node(_schema))

MERGE_METHODS.for_each(  # every method is an option; conf/merge has those that set more than one method's values
    lambda method: ConfigStore.instance().store(
        group="merge", name=method.name, node={"method": method.name, **method.settings}
    )
)

CONF = conf_folder()
FULL_ERROR = "HYDRA_FULL_ERROR"


def main(words: Sequence[str] | None = None, *, as_script: bool = False) -> None:
    """Run the command that the first of ``words`` (by default those of the process) names, with the rest as arguments.

    ``as_script`` is for scripts of the checkout, as ``python train.py``: printed commands take the same form.
    """
    note_sigterm()
    print_anywhere()
    sys.excepthook = _print_bug
    try:
        try:
            _run_named(words, as_script=as_script)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        end_at_interrupt()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        sys.exit(1)


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug, whose texts may have keys, without them."""
    print(redacted("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after ``| head``."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _run_named(words: Sequence[str] | None, *, as_script: bool) -> None:
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"micota {__version__}")
    elif name in COMPLETION and (known := commands_for(rest)):
        print(" ".join(known))
    elif name in COMPLETION:
        main(completing([name, *rest]))
    elif name in COMMANDS:
        run(COMMANDS[name], rest, as_script=as_script)
    elif name in TOOLS:
        sys.exit(function(TOOLS[name].run)(rest))
    else:
        accepted = [*COMMANDS, *TOOLS]
        close = difflib.get_close_matches(name, accepted, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        print(f"error: {errors.shown(name)}: no such command{hint} accepted: {', '.join(accepted)}", file=sys.stderr)
        sys.exit(USER_ERROR)


def run(command: Command, words: Sequence[str], *, as_script: bool = False) -> None:
    """Compose the config of a command from the words after its name, and run it."""
    # Else a stage would outlive a killed pipeline and hold the lock of its artifact. Training saves a checkpoint then.
    end_with_starter(signal.SIGTERM)
    try:
        call, sys.argv[1:] = arguments([command.meant(word) for word in words], as_script=as_script)
    except ConfigError as error:
        fail(error, command.schema, Call())
    wants_traceback = bool(os.environ.get(FULL_ERROR))
    ran: list[tuple[Config, set[Path]]] = []  # with the offline runs that were there before

    def task(composed: DictConfig) -> Any:
        quieten()
        if not wants_traceback:
            del os.environ[FULL_ERROR]  # commands that this one starts must not inherit it
        try:
            call_of_job = replace(call, overrides=as_typed(HydraConfig.get().overrides.task))  # one job of a multirun
            config = prepare(composed, command.schema, call_of_job)
            ran.append((config, offline_runs(config)))
            objective = function(command.run)(config)
            sweeps.check_objective(objective, config)
            return objective
        except Exception as error:
            # A SLURM job must return its exception; elsewhere it is printed here, before Hydra adds other lines.
            if wants_traceback or "SUBMITIT_EXECUTOR" in os.environ or not is_users(error):
                raise
            fail(error, command.schema, call)
        finally:
            os.environ[FULL_ERROR] = "1"

    def show_help(*, _root_: DictConfig) -> str:
        # What is left is a template, in which $ begins the name of a part.
        return command_help(command, _root_, option_names, call.words(command.name, [])).replace("$", "$$")

    def check_points(points: list[list[str]]) -> None:
        try:
            for point in points:
                prepare(hydra.compose(command.name, point), command.schema, replace(call, overrides=as_typed(point)))
        except Exception as error:
            if is_users(error):  # Hydra makes a warning of an exception here; a bug comes again with the job
                fail(error, command.schema, call)

    OmegaConf.register_new_resolver("help", show_help, replace=True)
    sweeps.check_with(check_points)
    start = hydra.main(version_base="1.3", config_path=str(CONF), config_name=command.name)(task)
    os.environ[FULL_ERROR] = "1"  # else Hydra would print the error in another form and exit with 1
    try:
        with sweeps.no_record_of_failures(), printing_no_keys(sys.argv[1:]):
            start()
    except Exception as error:
        if wants_traceback or not is_users(error):
            raise
        fail(error, command.schema, call)
    finally:  # runs of a command that failed are tracked too
        if not wants_traceback:
            os.environ.pop(FULL_ERROR, None)
        for line in dict.fromkeys(sync_command(*one) for one in ran):  # once, however many jobs a sweep had
            if line is not None:
                print(f"tracked offline; to upload:  {line}")


def fail(error: Exception, schema: type[Config], call: Call) -> NoReturn:
    """Print a user error on one line and exit."""
    print(f"{errors.ERROR}{errors.shown(one_line(error, schema, call))}", file=sys.stderr)
    sys.exit(USER_ERROR)


def prepare(composed: DictConfig, schema: type[Any], call: Call) -> Any:
    """A checked config that knows how it was called and the fingerprints of local input."""
    settle_paths(composed, next(name for name, known in SCHEMAS.items() if known is schema), for_hydra(call.overrides))
    apply_short_keys(composed, schema, call.overrides)
    config = parse(composed, schema)
    config.call = call
    if (problem := no_folder(Path(config.artifacts).absolute())) is not None:
        raise ConfigError(f"artifacts={config.artifacts!r}: {problem}; accepted: a folder")
    if config.select.match != "none":
        config.compared = compared(config)
    fingerprint_inputs(config)
    read_templates(config)
    return config


def read_templates(config: Config) -> None:
    """Let every model with a file of its chat template know what is in it.

    Raises:
        ConfigError: there is no such file, or it is no text.
    """
    for key, model in models_of(config):
        if model.chat_template is None:
            continue
        try:
            model.template_text = text_of_file(local_path(model.chat_template))
        except (OSError, UnicodeDecodeError) as error:
            reason = errors.text_of(error)
            raise ConfigError(
                f"{key}.chat_template={model.chat_template!r} cannot be read ({reason}); accepted: a file with a Jinja "
                "template, in UTF-8"
            ) from error


TUNING = ("student.sft.", "compat=", "curriculum=", "objective=", "objective.")


def compared(config: Config) -> dict[str, DataConfig]:
    """The recipes of ``compare.recipes`` that have data, by label, whatever the config at hand chose.

    Raises:
        ConfigError: there is no option of that name, or the recipe differs in more than its data.
    """
    recipes = {}
    for point in config.compare.points("data"):
        option = next(override for override in point.overrides if override.startswith("data="))
        # How a student is tuned does not change its data.
        tuning = [override for override in point.overrides if override.startswith(TUNING)]
        others = [override for override in point.overrides if override != option and override not in tuning]
        strange = [override for override in others if not override.lstrip("+~").startswith("data.")]
        if strange:
            raise ConfigError(
                f"compare.recipes: {point.label} has {strange[0]}; accepted with select.match={config.select.match}: "
                "recipes that differ in their data, in student.sft, curriculum, objective and compat alone"
            )
        name = option.removeprefix("data=")
        if name not in (options := option_names("data")):
            raise ConfigError(f"compare.recipes names {name!r}; accepted: {', '.join(options)}")
        # The file alone has no schema: what it does not mention has to be forced in.
        forced = [override if override.startswith(("+", "~")) else f"++{override}" for override in others]
        recipe = data_option(name, forced)
        if not recipe.is_untuned:
            recipes[point.label] = recipe
    return recipes


# The recipes of one experiment are composed for each of its configs, in which they are the same.
_OPTIONS: WeakKeyDictionary[Hydra, dict[tuple[str, ...], DictConfig]] = WeakKeyDictionary()


def data_option(name: str, overrides: Sequence[str]) -> DataConfig:
    """An option of the group ``data`` alone, with overrides. Hydra, which must be initialised, composes each once."""
    current = GlobalHydra.instance().hydra
    assert current is not None
    options = _OPTIONS.setdefault(current, {})
    if (name, *overrides) not in options:
        composed = hydra.compose(f"data/{name}", overrides=list(overrides))
        typed = OmegaConf.create({"data": OmegaConf.merge(OmegaConf.structured(DataConfig), composed.data)})
        settle_paths(typed, f"data/{name}", list(overrides))
        options[name, *overrides] = typed.data
    option = OmegaConf.to_object(options[name, *overrides])
    assert isinstance(option, DataConfig)
    return option


def option_names(group: str) -> list[str]:
    """The options of a group, with those of the folder of the user. Hydra must be initialised."""
    # A group can be used for several parts: model@large has the options of model.
    names: list[str] = GlobalHydra.instance().config_loader().get_group_options(group.partition("@")[0])
    return sorted(name for name in set(names) if not name.startswith("_"))
