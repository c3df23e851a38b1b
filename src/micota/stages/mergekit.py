"""Models -> their merge by mergekit."""

from __future__ import annotations

import logging
from functools import partial

from micota.config import Config
from micota.errors import is_users
from micota.graph import MergekitSpec
from micota.graph.node import AnyNode
from micota.merging.mergekit import KEPT, check_configuration, merge_by_mergekit
from micota.pretrained import load_config
from micota.runtime.execute import naming_keys
from micota.runtime.inputs import model_location, template_of
from micota.runtime.work import Work
from micota.stages.merge import conversation_for
from micota.stages.merge_inputs import check_models, whole_model

logger = logging.getLogger(__name__)


def check(config: Config, node: AnyNode) -> None:
    """Refuse a configuration that mergekit refuses, and models that exist and do not fit each other.

    Raises:
        ConfigError: mergekit is not installed, the configuration is refused, or the models differ.
    """
    check_configuration(node.spec, list(node.inputs))
    check_models(config, node)
    if any(node.spec.config.get(key) for key in ("slices", "modules")):  # these name layers
        source = next((child.spec for child in node.inputs.values() if child.is_source), None)
        with naming_keys(config):
            settings = None if source is None else load_config(*whole_model(source.path, source.revision))
        check_configuration(node.spec, list(node.inputs), settings)


def mergekit(work: Work[MergekitSpec]) -> None:
    """Merge, check, and write the model."""
    spec, inputs = work.node.spec, work.node.inputs
    locations = {label: model_location(work.store, node) for label, node in inputs.items()}
    prepare = partial(template_of, inputs[KEPT])
    try:
        work.build.metrics |= merge_by_mergekit(spec, locations, work.build.path, conversation_for(work), prepare)
    except Exception as error:
        if is_users(error):  # as in a merge of micota, no files are left
            work.build.clear()
        raise
    logger.info("merged %s by %s: %s", work.node.name, spec.method, work.build.metrics)
