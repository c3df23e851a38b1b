"""The configs of an experiment, one for each recipe of each case, as single commands would compose them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from omegaconf import DictConfig

from micota.cli import quick_hydra
from micota.cli.app import prepare
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Config, Point, of_every_command, override_key, without_keys
from micota.config.roles import BY_ROLE, for_hydra
from micota.errors import ConfigError
from micota.graph import CaseConfig, RecipeConfig

PARTS = {item.name for item in fields(Config)} - {"call"}
# Roles have copies of these: see micota.config.roles. Groups that are no part (experiment, compat) change any.
INDEPENDENT = PARTS - BY_ROLE.keys()


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
        case = composer.compose(chosen)
        recipes = []
        for recipe in compare.points("data"):
            every = {**chosen, **_chosen([recipe], given)}
            recipes.append(RecipeConfig(name=recipe.label, config=composer.compose(every), chosen=every))
        recipes = [recipe for recipe in recipes if recipe.config.data.covers(recipe.config.student)]
        labels = {axis: point.label for axis, point in zip(axes, points, strict=True)}
        configs.append(CaseConfig(labels=labels, config=case, chosen=chosen, recipes=recipes))
    return configs


class Composer:
    """Composes configs, each part as rarely as possible: Hydra takes a tenth of a second for one.

    Parts of a config do not refer to each other. So overrides of different parts are composed apart, each set once for
    all cases and recipes, and put together.
    """

    def __init__(self, config: Config, kept: list[str]) -> None:
        self._config = config
        self._kept = kept
        self._merged: dict[Any, DictConfig] = {}
        self._composed: dict[tuple[str, ...], Config] = {}
        self._more: dict[tuple[str, ...], bool] = {}

    def compose(self, chosen: Mapping[str, str]) -> Config:
        """The config of the command line with more overrides, which stand before it, so that the command line wins.

        Raises:
            ConfigError: an override is wrong.
        """
        by_part: dict[str, list[str]] = {}
        for key, value in chosen.items():
            by_part.setdefault(_part(key), []).append(f"{key}={value}")
        if len(by_part) < 2 or not by_part.keys() <= INDEPENDENT:
            return self._whole(_overrides(chosen))
        parts = {part: self._whole(overrides) for part, overrides in by_part.items()}
        if any(self._changes_more(part, tuple(by_part[part]), alone) for part, alone in parts.items()):
            return self._whole(_overrides(chosen))
        call = replace(self._config.call, overrides=[*_overrides(chosen), *self._kept])
        return replace(self._config, call=call, **{part: getattr(alone, part) for part, alone in parts.items()})

    def _changes_more(self, part: str, overrides: tuple[str, ...], alone: Config) -> bool:
        """Whether overrides of one part change another too."""
        if overrides not in self._more:
            others = PARTS - {part}
            self._more[overrides] = any(getattr(alone, name) != getattr(self._config, name) for name in others)
        return self._more[overrides]

    def _whole(self, overrides: Sequence[str]) -> Config:
        """The config as Hydra composes it with these overrides."""
        if not overrides:
            return self._config
        if tuple(overrides) in self._composed:
            return self._composed[tuple(overrides)]
        every = [*overrides, *self._kept]
        call = replace(self._config.call, overrides=every)
        try:
            composed = quick_hydra.compose("generate", for_hydra(every), self._merged)
            config: Config = prepare(composed, SCHEMAS["generate"], call)
        except Exception as error:
            if not is_users(error):
                raise
            points = " ".join(overrides)
            raise ConfigError(f"compare has {points}: {one_line(error, SCHEMAS['generate'], call)}") from error
        return self._composed.setdefault(tuple(overrides), config)


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
