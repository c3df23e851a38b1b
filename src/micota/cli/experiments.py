"""The configs of an experiment, one for each recipe of each case, as single commands would compose them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import hydra

from micota.cli.app import prepare
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Config, Point, of_every_command, override_key, without_keys
from micota.config.roles import BY_ROLE, for_hydra
from micota.errors import ConfigError
from micota.graph import CaseConfig, RecipeConfig

GLOBAL_GROUPS = {"experiment", "compat"}  # their options change any part of a config


def cases(config: Config) -> list[CaseConfig]:
    """Every case of an experiment with its recipes.

    Overrides of the command line win over those of a point, and choose among points: ``student=qwen3b`` keeps
    only that point of an axis ``student``.

    Raises:
        ConfigError: the command line names a point that an axis with labels lacks.
    """
    kept = without_keys(of_every_command(config.overrides), {"data", "plan"})
    given = {override_key(override): override for override in kept}
    compare = config.compare
    axes = {axis: _points(axis, compare.points(axis), given.get(axis)) for axis in compare.axes}
    composer = Composer(config, kept)
    configs = []
    for points in itertools.product(*axes.values()):
        chosen = _chosen(points, given)
        case = composer.compose(_overrides(chosen))
        recipes = [
            composer.recipe(case, chosen, recipe.label, _chosen([recipe], given)) for recipe in compare.points("data")
        ]
        recipes = [recipe for recipe in recipes if recipe.config.data.covers(recipe.config.student)]
        labels = {axis: point.label for axis, point in zip(axes, points, strict=True)}
        configs.append(CaseConfig(labels=labels, config=case, chosen=chosen, recipes=recipes))
    return configs


class Composer:
    """Composes configs, each part as rarely as possible: Hydra takes a fifth of a second for one."""

    def __init__(self, config: Config, kept: list[str]) -> None:
        self._config = config
        self._kept = kept
        self._recipes: dict[tuple[str, ...], Config] = {}

    def compose(self, overrides: Sequence[str]) -> Config:
        """The config of the command line with more overrides, which stand before it, so that the command line wins."""
        if not overrides:
            return self._config
        every = [*overrides, *self._kept]
        call = replace(self._config.call, overrides=every)
        try:
            config: Config = prepare(hydra.compose("generate", overrides=for_hydra(every)), SCHEMAS["generate"], call)
        except Exception as error:
            if not is_users(error):
                raise
            points = " ".join(overrides)
            raise ConfigError(f"compare has {points}: {one_line(error, SCHEMAS['generate'], call)}") from error
        return config

    def recipe(self, case: Config, shared: Mapping[str, str], name: str, added: Mapping[str, str]) -> RecipeConfig:
        """A recipe of a case. Where the two change different parts of the config, those of the recipe are composed once
        for all cases, since parts do not refer to each other."""
        overrides = _overrides(added)
        parts, others = {_part(key) for key in added}, {_part(key) for key in shared}
        touched = others | {part for part in parts if getattr(case, part, None) != getattr(self._config, part, None)}
        is_copied = (parts | touched) & BY_ROLE.keys()  # roles have copies of these: see micota.config.roles
        if is_copied or parts & (touched | GLOBAL_GROUPS):
            config = self.compose(_overrides({**shared, **added}))
        else:
            if tuple(overrides) not in self._recipes:
                self._recipes[tuple(overrides)] = self.compose(overrides)
            alone = self._recipes[tuple(overrides)]
            config = replace(case, **{part: getattr(alone, part) for part in parts})
        return RecipeConfig(name=name, config=config, chosen={**shared, **added})


def _points(axis: str, points: list[Point], given: str | None) -> list[Point]:
    """The points of an axis that agree with its override on the command line."""
    if given is None:
        return points
    agreeing = [point for point in points if given in point.overrides]
    value = given.partition("=")[2]
    if not agreeing and any(point.overrides != [f"{axis}={point.label}"] for point in points):
        accepted = ", ".join(
            override for point in points for override in point.overrides if override_key(override) == axis
        )
        raise ConfigError(f"{given}: the experiment has no such point; accepted: {accepted}")
    return agreeing or [Point(label=value, overrides=[given])]


def _chosen(points: Sequence[Point], given: Mapping[str, str]) -> dict[str, str]:
    """The overrides of points by key, without those of keys that the command line sets."""
    every = [override.partition("=") for point in points for override in point.overrides]
    return {key: value for key, _, value in every if override_key(key) not in given}


def _overrides(chosen: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in chosen.items()]


def _part(key: str) -> str:
    """The part of a config that an override changes: of a group, where its option is put."""
    return key.rpartition("@")[2].partition(".")[0]
