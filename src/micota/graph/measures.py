"""What models are measured by: scores, the BPC of their data, rank shifts."""

from __future__ import annotations

from micota.config import Config, ConfigError, EvaluateConfig, ModelConfig
from micota.graph.leaves import author_config, completions, evaluation_prompt, likelihood, named, rows, source
from micota.graph.nodes import data, model
from micota.graph.specs import ReadingSpec, ScoresSpec
from micota.records import Node


def scores(
    config: Config, role: str, subject: Node | None = None, writer: ModelConfig | None = None
) -> dict[str, Node]:
    """The graded answers of a role, or of any other model (``subject``, which writes as ``writer``), by benchmark."""
    own = {"role": role} if role != "student" else {"data": config.data.name}
    choose = own if subject is None else {}  # another model is named in the overrides of the command
    subject = subject or model(config, role)
    writer = writer or author_config(config, role)
    prompt = evaluation_prompt(config.prompt)
    judge = config.evaluation.judge
    nodes = {}
    for name, bench in config.bench.items():
        sampling = config.evaluation.sampling
        answers = completions(config, subject, bench, name, writer, sampling, prompt, door="evaluate", choose=choose)
        nodes[name] = Node(
            kind="scores",
            stage="grade",
            name=answers.name,
            spec=ScoresSpec(problems=rows(bench), grader=config.evaluation.grader, judge=judge.model),
            inputs={"completions": answers},
            door="evaluate",
            choose=choose,
        )
    return nodes


def evaluation(config: EvaluateConfig) -> list[Node]:
    """All that evaluate.py makes: scores, and for a student's arm the BPC of its data; or its rank shifts alone."""
    if config.rank_shift:
        return list(rank_shifts(config).values())
    if config.model.path is not None:
        other = named(config.model)
        return list(scores(config, config.role, source(other), other).values())
    measured = bpc(config) if config.role == "student" else None
    return [*scores(config, config.role).values(), *([measured] if measured else [])]


def bpc(config: Config) -> Node | None:
    """Bits per character of the arm's data under the untouched student; None for the arm without data."""
    if config.data.is_untuned:
        return None
    return likelihood(config, data(config, config.data), "evaluate", {"data": config.data.name})


def rank_shifts(config: Config) -> dict[str, Node]:
    """By benchmark, the ranks that the tuned student's tokens had under the untouched student; none for the latter.

    Raises:
        ConfigError: answers are sampled; only in greedy ones is each token the tuned model's own first choice, so that
            its rank before is the shift.
    """
    if config.data.is_untuned:
        return {}
    temperature = config.evaluation.sampling.temperature
    if temperature > 0:
        raise ConfigError(
            f"evaluation.sampling.temperature={temperature:g}: rank shifts are of greedy answers; accepted: 0"
        )
    return {
        name: Node(
            kind="rank_shifts",
            stage="rank_shift",
            name=graded.name,
            spec=ReadingSpec(precision=config.trainer.precision),
            inputs={"model": source(config.student), "completions": graded.inputs["completions"]},
            door="evaluate",
            choose={"data": config.data.name, "rank_shift": "true"},
        )
        for name, graded in scores(config, "student").items()
    }
