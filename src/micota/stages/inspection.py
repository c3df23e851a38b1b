"""What the files of this machine show about a stage before anything is made, without torch: a plan checks it too."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from micota.config import Config, SourceConfig
from micota.config.curriculum import AT
from micota.config.models import is_row_file, models_of
from micota.data.files import BUNDLED, numbered_rows
from micota.data.only import is_wanted
from micota.data.shapes import training_rows
from micota.data.sources import load_problems, located_questions, model_folder
from micota.data.tokenizer_files import Encode, has_chat_template, strict_encoder
from micota.data.unknown_words import no_tokens, unknown_words
from micota.errors import ConfigError, SourceError
from micota.grading.gold import GoldError, listed
from micota.grading.graders import gold_for
from micota.graph import CompletionsSpec, Prompt, RowsSpec, ScoresSpec, SourceSpec, TrainSpec, parts_of
from micota.graph.models import source_of
from micota.graph.node import AnyNode, Node
from micota.graph.specs import DataSpec, DeterminismSpec
from micota.sft.continuing import check_settings
from micota.stages import tuned_weights

ROWS = 1000  # first rows of a file of training data that a plan reads
WEIGHTS = (".safetensors", ".bin")
MOST_BYTES = 2**26  # of a file that is read as a whole


def completions(config: Config, node: Node[CompletionsSpec]) -> None:
    """Refuse a model without a chat template, and problems that its tokenizer has no tokens for.

    Raises:
        ConfigError, SourceError: the text names the model, and the row and its words.
    """
    prompted(config, node.inputs["model"], node.spec)


def prompted(config: Config, model: AnyNode, spec: CompletionsSpec) -> None:
    """Refuse what the prompts of a model would fail on (see ``completions``)."""
    if spec.engine == "chat":  # an API renders prompts and has its tokenizer
        return
    source: SourceSpec = source_of(model).spec
    if spec.engine != "server":  # which has the weights, and may be elsewhere
        _check_weights(config, source)
    if spec.prompt.as_chat:
        _check_template(config, source)
    encode = strict_encoder(source)
    if encode is None or not _is_here(spec.questions.path):
        return
    _check_prompt(source, spec.prompt, encode)
    unknown = [
        (where, words)
        for where, question in located_questions(spec.questions)
        if (words := unknown_words(encode, spec.prompt.template.replace("{problem}", question.problem)))
    ]
    if unknown:
        where, words = unknown[0]
        others = f" (as {len(unknown) - 1} more of the rows)" if len(unknown) > 1 else ""
        raise SourceError(f"{where}{others}: {no_tokens(source.path, words, 'the problem')}")


def training(config: Config, node: Node[TrainSpec]) -> None:
    """Refuse a model without a chat template, weights to train that it does not have, a run to continue that is not
    there, and first rows of a file with words that its tokenizer has no tokens for.

    Raises:
        ConfigError, SourceError: the text names the model, or the row and its words.
        ArtifactError: the run to continue is damaged.
    """
    source = source_of(node.inputs["model"]).spec
    _check_weights(config, source)
    _check_template(config, source)
    _check_parts(node)
    tuned_weights.check(config, node, source, _key_of(config, source))
    if (shorter := config.placed(node.runs).trainer.continue_from) is not None:
        check_settings(Path(shorter), node)
    rows, encode = node.inputs["data"].spec, strict_encoder(source)
    if encode is None or not isinstance(rows, RowsSpec) or not _is_here(rows.rows.path):
        return
    for where, text in _texts(rows):
        if words := unknown_words(encode, text):
            raise SourceError(f"{where}: {no_tokens(source.path, words, 'the row')}")


def scores(config: Config, node: Node[ScoresSpec]) -> None:
    """Refuse benchmarks whose rows or golds cannot be read.

    Raises:
        SourceError: the text names the rows.
    """
    if _is_here(node.spec.problems.path):
        check_golds(node.spec.problems)


def check_golds(problems: SourceConfig) -> None:
    """Parse all golds of a benchmark.

    Raises:
        SourceError: a gold is not of its type; the text names the benchmark, the problem and the gold.
    """
    bad = []
    for problem in load_problems(problems):
        try:
            gold_for(problem)
        except GoldError as error:
            bad.append(f"{problems.path}: problem {problem.id}: {error}")
    if bad:
        raise SourceError(listed(bad))


def repetitions(config: Config, node: Node[DeterminismSpec]) -> None:
    """Refuse what would end the repetitions of an evaluation: see ``completions`` and ``scores``.

    Raises:
        ConfigError, SourceError: the text names the model or the rows.
    """
    prompted(config, node.inputs["model"], node.spec.answers)
    if _is_here(node.spec.problems.path):
        check_golds(node.spec.problems)


def data(config: Config, node: AnyNode) -> None:
    """Refuse the first rows of a file of training data that are of no known shape.

    Raises:
        SourceError: the text names the row.
    """
    spec = node.spec
    if not isinstance(spec, RowsSpec) or not _is_here(spec.rows.path):
        return
    for _ in _texts(spec):
        pass


def _texts(spec: RowsSpec) -> Iterator[tuple[str, str]]:
    """The texts of the first rows of a file, each with the words for its row in errors."""
    path = Path(str(spec.rows.path))
    if path.suffix == ".json" and path.is_file() and path.stat().st_size > MOST_BYTES:
        return  # which is read as a whole
    for where, values in islice(numbered_rows(spec.rows, spec.rows.limit), ROWS):
        if not is_wanted(values, where, spec.rows.only):
            continue
        for row in training_rows(values, where, spec.rows, spec.prompt):
            yield from ((where, turn["content"]) for turn in row.messages)
            yield where, row.completion


def _check_weights(config: Config, source: SourceSpec) -> None:
    """Refuse a folder of this machine that has a config and no weights."""
    folder = Path(model_folder(source.path))
    if folder.is_dir() and not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        raise ConfigError(
            f"{_key_of(config, source)}.path={source.path!r}: the folder has no weights; accepted: a folder with "
            "safetensors, or the id of a model on the hub"
        )


def _check_parts(node: Node[TrainSpec]) -> None:
    """Refuse a curriculum whose points name parts that the data do not have."""
    data = node.inputs["data"]
    leaves = list(_leaves(data))
    if not parts_of(data) or any(isinstance(leaf.spec, RowsSpec) for leaf in leaves):  # rows may name several
        return
    parts = dict.fromkeys(leaf.spec.recipe for leaf in leaves)
    named = {name for point in node.spec.sft.curriculum.points for name in point if name != AT}
    if unknown := sorted(named - parts.keys()):
        raise ConfigError(
            f"sft.curriculum.points names {unknown[0]!r}, and data={data.name} has no such part; "
            f"accepted: {', '.join(parts)}"
        )


def _leaves(data: Node[DataSpec]) -> Iterator[Node[DataSpec]]:
    """The data that are not mixed or chosen from others: examples have their recipes as names of their parts."""
    parts = parts_of(data)
    yield from chain.from_iterable(map(_leaves, parts.values())) if parts else [data]


def _key_of(config: Config, source: SourceSpec) -> str:
    """The part of the config that names a model."""
    return next((key for key, model in models_of(config) if model.path == source.path), "student")


def _check_template(config: Config, source: SourceSpec) -> None:
    if has_chat_template(source) is False:
        key = _key_of(config, source)
        raise ConfigError(
            f"{key}.path={source.path!r}: the tokenizer has no chat template; accepted: a file with one, as "
            f"{key}.chat_template=FILE, or a model that has one"
        )


def _check_prompt(source: SourceSpec, prompt: Prompt, encode: Encode) -> None:
    """Refuse a template or system text of the config with words that the tokenizer has no tokens for."""
    for key, text in (("prompt.template", prompt.template.replace("{problem}", "")), ("prompt.system", prompt.system)):
        if text and (words := unknown_words(encode, text)):
            raise ConfigError(no_tokens(source.path, words, f"{key}={text[:60]!r}"))


def _is_here(path: str | None) -> bool:
    """Whether rows are on this machine."""
    return path is not None and (path.startswith(BUNDLED) or is_row_file(path) or Path(path).exists())
