"""What the estimate of one stage needs to know: the machine, the config of a node, and what its inputs will hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.config import Config, CostConfig, EngineConfig, ModelConfig, QuestionsConfig, SourceConfig
from micota.config.running import AUTO
from micota.costs.machine import Machine
from micota.costs.measured import Measured
from micota.costs.sizes import known_shapes, shape_of
from micota.costs.speeds import fewest_parts
from micota.engines.auto import as_engine
from micota.errors import ArtifactError
from micota.graph import MatchedSpec, MixtureSpec, MostLikelySpec, RowsSpec, parts_of
from micota.graph.node import AnyNode
from micota.graph.stage import stage_of
from micota.sft.fitting import fewest_devices
from micota.sft.shape import Shape


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The cost of one node. ``work`` is in the unit of its stage (``micota.costs.measured``), ``problems`` say what the
    machine cannot do."""

    generated: float = 0  # tokens
    trained: float = 0  # tokens, of all epochs, with prompts
    flops: float = 0
    seconds: float = 0
    devices: int = 0  # of the machine that are busy; 0: none, the stage runs on the CPU beside them
    memory: int = 0  # bytes on each device
    disk: int = 0  # bytes that stay
    scratch: int = 0  # bytes that are needed besides while it runs
    work: float = 0
    price: float = 0  # of an API, in the currency of its prices
    weights: int = 0
    is_measured: bool = False
    name: str = ""  # of the model that runs
    slow: str = ""  # a setting that would make it faster
    note: str = ""  # what the table does not show
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Amount:
    """Completions or examples: how many, and their mean length in tokens."""

    count: float
    tokens: float


class Context:
    """Answers about the nodes of one graph.

    Args:
        configs: the config of each node, by folder; ``default`` for all others.
    """

    def __init__(self, machine: Machine, store: Store, default: Config, configs: Mapping[str, Config]) -> None:
        self.machine, self.store = machine, store
        self._default, self._configs = default, configs
        self._manifests: dict[str, Manifest | None] = {}
        self._amounts: dict[str, Amount] = {}

    @property
    def cost(self) -> CostConfig:
        return self._default.cost

    @cached_property
    def measured(self) -> Measured:
        """The speeds of earlier runs, if the machine is this one."""
        root = self.store.root if self.machine.is_here else Path("/nonexistent")
        return Measured(root, self.cost, list(_models(self._default)))

    def config(self, node: AnyNode) -> Config:
        """The config of the stage of a node, on the machine that is priced."""
        config = self._configs.get(node.folder, self._default).placed(node.runs)
        if config.engine.name == AUTO:
            name = "vllm" if self.machine.accelerator == "gpu" and config.engine.device != "cpu" else "hf"
            config = replace(config, engine=as_engine(config.engine, name))
        return replace(config, engine=self._with_parts(config.engine, node))

    def _with_parts(self, engine: EngineConfig, node: AnyNode) -> EngineConfig:
        """The engine with the number of GPUs for one model, where it is open."""
        if engine.tensor_parallel is not None or engine.name != "vllm" or not stage_of(node).runs_engine:
            return engine
        machine, model = self.machine, node.inputs.get("model")
        shape = self._shape_config(model, node.runs) if model is not None and machine.accelerator == "gpu" else None
        if shape is None:
            return replace(engine, tensor_parallel=1)
        parts = fewest_parts(shape, engine, machine.memory_bytes, machine.num_devices)
        return replace(engine, tensor_parallel=parts)

    def shape(self, node: AnyNode, runs: ModelConfig | None = None) -> Shape | None:
        """The sizes of the model that a node is, runs or makes; None if they are not known.

        Args:
            runs: the config of the model, where the config of the experiment does not have it.
        """
        sizes = self._shape_config(node, runs)
        return None if sizes is None else Shape.from_config(sizes)

    def _shape_config(self, node: AnyNode, runs: ModelConfig | None = None) -> Any:
        config = self._configs.get(node.folder, self._default)
        models = [*_models(config), *_models(self._default), *(one for one in (node.runs, runs) if one)]
        return shape_of(node, known_shapes(models))

    def trained_shape(self, node: AnyNode) -> Shape | None:
        """The sizes of a model that a node trains, with its adapters, and beside its teacher."""
        sizes = self._shape_config(node)
        if sizes is None:
            return None
        shape, teacher = Shape.to_train(sizes, node.spec.sft), self.teacher_shape(node)
        return shape.taught_by(teacher, node.spec.objective, self.config(node).engine.embedded_rows)

    def teacher_shape(self, node: AnyNode) -> Shape | None:
        """The sizes of the teacher that computes beside a model that a node trains; None without one, or unknown."""
        teacher = node.inputs.get("teacher")
        return None if teacher is None else self.shape(teacher)

    def sized(self, node: AnyNode) -> Config:
        """The config of a node with every number of GPUs that is open."""
        config = self.config(node)
        shape = self.trained_shape(node) if stage_of(node).has_ranks else None
        return config if shape is None else self.with_devices(config, shape, node.spec.sft.max_tokens)

    def with_devices(self, config: Config, shape: Shape, longest: int) -> Config:
        """The config with the number of GPUs of its trainer, where it is open."""
        if config.trainer.devices is not None:
            return config
        machine = self.machine
        count = fewest_devices(shape, config.trainer, longest, machine.memory_bytes, machine.num_devices)
        return replace(config, trainer=replace(config.trainer, devices=count))

    def earlier(self, node: AnyNode) -> Manifest | None:
        """The manifest of a node, or of the newest artifact of its name: an earlier config, or another seed."""
        if node.folder not in self._manifests:
            self._manifests[node.folder] = self._earlier(node)
        return self._manifests[node.folder]

    def _earlier(self, node: AnyNode) -> Manifest | None:
        try:
            if (own := self.store.manifest(node)) is not None:
                return own
            others = [m for m in self.store.siblings(node) if m.stage == node.stage]
        except ArtifactError:  # a damaged artifact is the matter of the command that uses it
            return None
        return max(others, key=lambda manifest: manifest.finished_at, default=None)

    def num_problems(self, questions: QuestionsConfig, config: Config) -> int:
        """Rows of a source of problems: as declared, as in a file here, or as assumed."""
        sources = [config.problems, *config.bench.values(), *config.decontaminate_against.values()]
        declared = next((s.num_rows for s in sources if _same_rows(s, questions) and s.num_rows), None)
        count = declared or _lines(questions.path) or self.cost.num_problems
        left = max(0, count - questions.skip)
        return left if questions.limit is None else min(left, questions.limit)

    def completions(self, node: AnyNode) -> Amount:
        """The completions of a node."""
        spec = node.spec
        count = self.num_problems(spec.questions, self.config(node)) * spec.sampling.num_samples
        earlier = self.earlier(node)
        tokens = earlier.metrics.get("num_tokens") if earlier else None
        return Amount(count, tokens or min(spec.sampling.max_tokens, self.length(node.inputs["model"], node)))

    def length(self, model: AnyNode, node: AnyNode) -> float:
        """Assumed tokens of a completion of a model that ``node`` runs: a tuned one writes as its data, a merged one
        between, a released one as its recipe says."""
        if model.stage == "merge":
            return self.cost.middle_tokens
        if model.stage == "train":
            return self.examples(model.inputs["data"]).tokens
        recipe, config = self._configs.get(node.folder, self._default).data, node.runs
        if model.spec.path in (released.path for released in recipe.released.values()):
            return float(getattr(self.cost, f"{recipe.released_answers}_tokens"))
        thinks = config is not None and config.path == model.spec.path and config.thinking.open is not None
        is_teacher = model.spec.path == self._default.teacher.path
        return self.cost.long_tokens if thinks or is_teacher else self.cost.short_tokens

    def examples(self, node: AnyNode) -> Amount:
        """The examples of a data node."""
        if node.folder not in self._amounts:
            self._amounts[node.folder] = self._examples(node)
        return self._amounts[node.folder]

    def _examples(self, node: AnyNode) -> Amount:
        earlier = self.earlier(node)
        if earlier is not None and earlier.counts.get("examples"):
            return Amount(earlier.counts["examples"], earlier.metrics.get("num_tokens", self.cost.long_tokens))
        spec = node.spec
        found = self._expected(node)
        limit = spec.select.num_examples
        return found if limit is None else Amount(min(limit, found.count), found.tokens)

    def _expected(self, node: AnyNode) -> Amount:
        spec = node.spec
        parts = {label: self.examples(child) for label, child in parts_of(node).items()}
        if isinstance(spec, RowsSpec):
            rows = _lines(spec.rows.path or "") or self.cost.num_problems
            return Amount(min(rows, spec.rows.limit or rows), self.cost.long_tokens)
        if isinstance(spec, MixtureSpec | MatchedSpec):
            weights = spec.weights if isinstance(spec, MixtureSpec) else spec.compared[spec.compared_as]
            shares = {label: share for label, share in weights.items() if share and label in parts}
            if shares:
                count = min(parts[label].count / share for label, share in shares.items())
                return Amount(count, sum(share * parts[label].tokens for label, share in shares.items()))
        if isinstance(spec, MostLikelySpec | MatchedSpec) and parts:
            mean = sum(part.tokens for part in parts.values()) / len(parts)
            return Amount(max(part.count for part in parts.values()), mean)
        if "completions" not in node.inputs:
            return Amount(self.cost.num_problems, self.cost.long_tokens)
        made = self.completions(node.inputs["completions"])
        return Amount(made.count * self.cost.kept_share, made.tokens)


def _models(config: Config) -> Iterator[ModelConfig]:
    """All models of a config, those inside of its parts too."""
    for item in fields(config):
        value = getattr(config, item.name)
        inner = (
            [value] if isinstance(value, ModelConfig) else [getattr(value, n, None) for n in ("base", "tuned", "model")]
        )
        yield from (model for model in inner if isinstance(model, ModelConfig))


def _same_rows(source: SourceConfig, questions: QuestionsConfig) -> bool:
    return all(getattr(source, name) == getattr(questions, name) for name in ("path", "subset", "split"))


def _lines(path: str) -> int | None:
    """Rows of a JSONL file of this machine."""
    file = Path(path).expanduser()
    if not path or not file.is_file() or file.suffix != ".jsonl":
        return None
    with open(file, "rb") as handle:
        return sum(1 for line in handle if line.strip())
