"""The configuration: YAML holds values, the dataclasses here hold types and checks.

A field declares what it means, what it accepts and whether it changes results (``fields.py``). ``parse`` walks the
finished tree and names the first field whose value is not accepted, by the full key that a user types on the
command line; ``reference`` renders all keys as Markdown.
"""

import micota.config.truth  # noqa: F401
from micota.config.audit import AuditConfig
from micota.config.call import Call
from micota.config.commands import COMMANDS, GROUPS, SCHEMAS, TOOLS, Command, Tool
from micota.config.engines import ENGINES, EngineKind
from micota.config.fields import Declaration, declaration
from micota.config.filters import FILTERS, Filter
from micota.config.folder import conf_folder
from micota.config.graders import GRADERS, Grader
from micota.config.hardware import CostConfig, HardwareConfig
from micota.config.merge_methods import MERGE_METHODS, PRUNINGS, MergeMethod, PruningKind
from micota.config.method import CompareConfig, DataConfig, PartConfig, Point, SelectConfig
from micota.config.models import (
    ModelConfig,
    OtherModelConfig,
    ReleasedConfig,
    ShapeConfig,
)
from micota.config.objective import ObjectiveConfig
from micota.config.parse import (
    apply_short_keys,
    arguments_for,
    child_schema,
    close_to,
    command_line,
    complaints,
    explain,
    is_bug_in_resolver,
    of_every_command,
    override_key,
    parse,
    unknown_key,
    without_keys,
)
from micota.config.problems import ANSWER_TYPES, PAPER_RULES, BenchConfig, PromptConfig, QuestionsConfig, SourceConfig
from micota.config.running import (
    ChatConfig,
    EndpointConfig,
    EngineConfig,
    EvaluationConfig,
    JudgeConfig,
    RayConfig,
    ServerConfig,
)
from micota.config.sampling import SamplingConfig
from micota.config.schemas import (
    Config,
    DoctorConfig,
    EvaluateConfig,
    ForecastConfig,
    GenerateConfig,
    MergeCommandConfig,
    PipelineConfig,
    PushConfig,
    ReportConfig,
    TrainConfig,
)
from micota.config.sft import BestConfig, GeneratorSftConfig, LoraConfig, ModelSftConfig, SftConfig
from micota.config.thinking import ThinkingConfig
from micota.config.tracking import HubConfig, TrackerConfig
from micota.config.trainer import TrainerConfig

__all__ = [
    "ANSWER_TYPES",
    "COMMANDS",
    "ENGINES",
    "FILTERS",
    "GRADERS",
    "GROUPS",
    "MERGE_METHODS",
    "PAPER_RULES",
    "PRUNINGS",
    "SCHEMAS",
    "TOOLS",
    "AuditConfig",
    "BenchConfig",
    "BestConfig",
    "Call",
    "ChatConfig",
    "Command",
    "CompareConfig",
    "Config",
    "CostConfig",
    "DataConfig",
    "Declaration",
    "DoctorConfig",
    "EndpointConfig",
    "EngineConfig",
    "EngineKind",
    "EvaluateConfig",
    "EvaluationConfig",
    "Filter",
    "ForecastConfig",
    "GenerateConfig",
    "GeneratorSftConfig",
    "Grader",
    "HardwareConfig",
    "HubConfig",
    "JudgeConfig",
    "LoraConfig",
    "MergeCommandConfig",
    "MergeMethod",
    "ModelConfig",
    "ModelSftConfig",
    "ObjectiveConfig",
    "OtherModelConfig",
    "PartConfig",
    "PipelineConfig",
    "Point",
    "PromptConfig",
    "PruningKind",
    "PushConfig",
    "QuestionsConfig",
    "RayConfig",
    "ReleasedConfig",
    "ReportConfig",
    "SamplingConfig",
    "SelectConfig",
    "ServerConfig",
    "SftConfig",
    "ShapeConfig",
    "SourceConfig",
    "ThinkingConfig",
    "Tool",
    "TrackerConfig",
    "TrainConfig",
    "TrainerConfig",
    "apply_short_keys",
    "arguments_for",
    "child_schema",
    "close_to",
    "command_line",
    "complaints",
    "conf_folder",
    "declaration",
    "explain",
    "is_bug_in_resolver",
    "of_every_command",
    "override_key",
    "parse",
    "unknown_key",
    "without_keys",
]
