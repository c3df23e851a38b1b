"""Errors of Hydra and OmegaConf: which are the user's, and how a line names the key that the error itself lacks."""

from __future__ import annotations

import traceback

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError

import micota
from micota.cli.mistakes import is_users, one_line
from micota.config import SCHEMAS, Call, close_to, parse, unknown_key
from micota.errors import ConfigError


def test_an_error_without_a_key_gets_that_of_its_override() -> None:
    error = InterpolationKeyError("Interpolation key 'nope' not found")
    line = one_line(error, SCHEMAS["train"], Call(overrides=["experiment=tiny", "seed=${nope}"]))
    assert (
        line == "seed=${nope}: Interpolation key 'nope' not found; accepted: an integer of at least 0 (a whole number)"
    )


def test_a_bug_in_a_resolver_is_no_mistake_of_the_user() -> None:
    def planted_bug() -> str:
        raise ValueError("planted")

    OmegaConf.register_new_resolver("planted", planted_bug)
    try:
        config = OmegaConf.create({"name": "${planted:}"})
        with pytest.raises(InterpolationResolutionError) as caught:
            parse(config, SCHEMAS["train"])
    finally:
        OmegaConf.clear_resolver("planted")
    assert not is_users(caught.value)
    printed = "".join(traceback.format_exception(caught.value))
    assert "in planted_bug" in printed and "ValueError raised while resolving interpolation: planted" in printed


def test_the_nearest_option_is_named() -> None:
    options = ["tiny", "micota", "qwen7b"]
    assert close_to("tniy", options) == close_to("tyni", options) == "; did you mean 'tiny'?"
    assert close_to("xxxx", options) == ";"


def test_a_key_of_a_model_without_its_role_names_the_roles() -> None:
    line = unknown_key(SCHEMAS["train"], "model.sft.lora.r")
    assert line.startswith("model.sft.lora.r: every model has a role; accepted: teacher.sft.lora.r, ta.sft.lora.r, stu")
    assert "no such key" in unknown_key(SCHEMAS["evaluate"], "model.sft.lora.rank"), "evaluate has a key of that name"


def test_an_error_about_a_type_has_the_value_of_the_override() -> None:
    with pytest.raises(ConfigError, match=r"^data\.only=\[level\]: .*; accepted: a map from columns to a value"):
        micota.compose(["seed=1", "data.only=[level]"], "train")
