"""Rows of the user and of public sets, in every format and shape, through the data stage and training."""

from __future__ import annotations

import csv
import gc
import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import hydra
import pyarrow
import pytest
from pyarrow import parquet
from rich.console import Console

from micota import graph
from micota.artifacts import jsonl, row_files
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.manifest import Manifest
from micota.artifacts.store import Store
from micota.cli import app
from micota.config import SCHEMAS, Call
from micota.data.training_rows import TrainingRow
from micota.errors import ArtifactError, SourceError
from micota.records import DATA, Completion, Example
from micota.runtime.execute import execute, perform
from micota.runtime.plan import tasks_of

PROBLEM, SOLUTION = "Ana has 9 pens:+3 mod 10?", "9+3=2.\n\\boxed{2}"
MORE = "Mia has 3 pens:+4*2 mod 10?", "3+4=7.\n7*2=4.\n\\boxed{4}"
USER, ASSISTANT = {"role": "user", "content": PROBLEM}, {"role": "assistant", "content": SOLUTION}
HUMAN, GPT = {"from": "human", "value": PROBLEM}, {"from": "gpt", "value": SOLUTION}
THOUGHT = {"question": PROBLEM, "deepseek_thinking_trajectory": "9+3=2.", "deepseek_attempt": "\\boxed{2}"}
GENERATED = {
    "problem": PROBLEM, "solution": "x", "answer": "2", "generations": [SOLUTION, "\\boxed{3}", SOLUTION],
    "correctness_math_verify": [True, False, True], "is_reasoning_complete": [True, True, False],
    "messages": [USER, ASSISTANT], "uuid": "u1",
}  # fmt: skip
SETTINGS = ("experiment=tiny", "tracker=none", "select.num_examples=null", "student.sft.batch_size=2")
Built = tuple[Manifest, list[Example]]
Build = Callable[..., Built]

# A row of each shape; each is one example of PROBLEM and SOLUTION after the filters.
SHAPES: dict[str, dict[str, Any]] = {
    "chat and completion": {"messages": [USER], "completion": SOLUTION},
    "messages": {"messages": [USER, ASSISTANT]},
    "messages in parts": {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": SOLUTION}]}]},
    "sharegpt": {"conversations": [HUMAN, GPT]},
    "conversations with roles": {"conversations": [USER, ASSISTANT]},
    "alpaca": {"instruction": PROBLEM, "input": "", "output": SOLUTION, "history": []},
    "prompt": {"prompt": PROBLEM, "completion": SOLUTION},
    "prompt of turns": {"prompt": [USER], "completion": [ASSISTANT]},
    "openr1": GENERATED,
    "limo": {"question": PROBLEM, "solution": SOLUTION, "answer": "2"},
    "uwnsl": {"problem": PROBLEM, "solution": SOLUTION},
}


@pytest.fixture(scope="module")
def config() -> Any:
    """The config of generate in the toy setting: composed once, since a test changes fields of the recipe alone."""
    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        call = Call(overrides=[*SETTINGS, "data=instruct", "data.path=bundled:train.jsonl"])
        return app.prepare(hydra.compose("train", call.overrides), SCHEMAS["train"], call)


@pytest.fixture
def build(config: Any, tmp_path: Path) -> Build:
    """``build(path, split="test")``: the data of the rows at a path, made by the stage."""

    def made(path: Path, **facts: Any) -> Built:
        store = Store(tmp_path / "made")
        node = graph.data(config, replace(config.data, path=str(path), **facts))
        store.forget(node)
        [task] = tasks_of([node])
        [manifest] = perform(config, store, task, Console(quiet=True))
        return manifest, read_jsonl(store.path(node) / DATA, Example)

    return made


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_every_shape_become_examples(config: Any, build: Build, tmp_path: Path, shape: str) -> None:
    manifest, examples = build(lines(tmp_path / "rows.jsonl", SHAPES[shape]))
    assert [(example.messages, example.completion) for example in examples] == [([USER], SOLUTION)]
    assert examples[0].num_tokens == 10 and examples[0].source == config.data.name
    assert manifest.counts["rows"] == 1 and manifest.counts["examples"] == 1


def test_answers_are_checked_where_rows_have_a_gold(build: Build, tmp_path: Path) -> None:
    rows = [{"problem": PROBLEM, "solution": SOLUTION, "answer": gold} for gold in ("2", "3", None)]
    manifest, examples = build(lines(tmp_path / "rows.jsonl", *rows, GENERATED))
    assert [example.problem_id for example in examples] == [examples[0].problem_id] * 2 + ["u1"]
    assert manifest.counts == {
        "rows": 4, "completions": 6, "not_checked": 1, "dropped_incorrect": 2, "dropped_not_finished_length": 1,
        "kept": 3, "examples": 3,
    }  # fmt: skip


def test_few_rows_are_in_memory_however_many_there_are(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"problem": f"{index} {PROBLEM}", "solution": SOLUTION, "answer": "2"} for index in range(64)]
    monkeypatch.setattr(row_files, "MAX_ROWS", 4)
    held: list[int] = []
    gc.freeze()  # what there is before is not walked over for each row

    def count(row: Any) -> Any:
        whole = (obj for obj in gc.get_objects() if isinstance(obj, TrainingRow | Completion | Example))
        held.append(sum(1 for _ in whole))
        return asdict(row)

    monkeypatch.setattr(row_files, "asdict", count)
    monkeypatch.setattr(jsonl, "asdict", count)
    _, examples = build(lines(tmp_path / "rows.jsonl", *rows))
    assert [example.messages[0]["content"] for example in examples] == [row["problem"] for row in rows]
    assert len(held) == 2 * 64, "each row is written twice: beside the data, and into them"
    assert max(held) - min(held) <= 3 * 4, "a chunk of rows, its answers, and one example"


def test_where_no_row_is_left_the_reasons_are_named(build: Build, tmp_path: Path) -> None:
    rows = [SHAPES["limo"] | {"answer": "5"}, SHAPES["limo"] | {"kind": "other"}]
    with pytest.raises(SourceError, match=r"no row is left to train on \(rows 1, completions 1, incorrect 1\)"):
        build(lines(tmp_path / "rows.jsonl", rows[0]))
    with pytest.raises(SourceError, match=r"rows.jsonl:1: data.only names kind: there is no such column; it has quest"):
        build(lines(tmp_path / "rows.jsonl", *rows), only={"kind": ["other"]})
    worked = SHAPES["limo"] | {"answer": "first this\nthen 2", "kind": "other"}
    manifest, _ = build(lines(tmp_path / "rows.jsonl", worked, worked | {"kind": "x"}), only={"kind": "other"})
    assert manifest.counts["not_checked"] == manifest.counts["other_rows"] == 1, "a worked solution is no final answer"


def test_columns_may_be_written_otherwise(build: Build, tmp_path: Path) -> None:
    large = {name.title(): value for name, value in SHAPES["limo"].items()}
    nested = {"task": {"text": PROBLEM}, "answers": [{"text": SOLUTION, "final": "2"}, {"text": "x"}]}
    (tmp_path / "semicolons.csv").write_text("problem;solution; Answer\n1;so 2;2\n")
    assert build(lines(tmp_path / "large.jsonl", large))[0].counts["kept"] == 1
    assert "not_checked" not in build(tmp_path / "semicolons.csv")[0].counts
    columns = {"problem": "task.text", "completion": "answers.0.text", "gold": "answers.0.final"}
    manifest, examples = build(lines(tmp_path / "nested.jsonl", nested), columns=columns)
    assert examples[0].completion == SOLUTION and "not_checked" not in manifest.counts
    for path in ("answers.0.texts", "answers.7.text", "answers.first", "task.text.0"):
        with pytest.raises(SourceError, match=rf"data.columns={{completion: {path}}}: there is no such column"):
            build(tmp_path / "nested.jsonl", columns=columns | {"completion": path})
    with pytest.raises(SourceError, match=r"data.only names task.kind: there is no such column"):
        build(tmp_path / "nested.jsonl", columns=columns, only={"task.kind": "x"})


@pytest.mark.parametrize(("cell", "only", "kept"), [
    ("5", 5, True), ("5.0", 5, True), ("five", 5, False), ("true", True, True), ("1", True, False), ("", None, True),
    (5, "5", True), ("Level 5", "Level 5", True), (None, None, True), ("x", None, False), (5, ["3", "5"], True),
])  # fmt: skip
def test_only_compares_words_of_files_of_text_with_numbers(
    build: Build, tmp_path: Path, cell: Any, only: Any, kept: bool
) -> None:
    path = lines(tmp_path / "rows.jsonl", SHAPES["uwnsl"] | {"kind": "other"}, SHAPES["uwnsl"] | {"kind": cell})
    manifest, _ = build(path, only={"kind": ["other", *(only if isinstance(only, list) else [only])]})
    assert manifest.counts["examples"] == 1 + kept


def test_refused_data_leave_nothing(build: Build, config: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", SHAPES["limo"])  # a gold answer: its question is compared with benchmarks
    with pytest.raises(ArtifactError, match=r"only 1 examples passed the filters, select.num_examples=9"):
        build(path, select=replace(config.data.select, num_examples=9))
    assert not [*(tmp_path / "made" / "data").glob("*")]


def test_an_error_about_many_columns_is_short(build: Build, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {f"feature_{number}": 1 for number in range(200)})
    with pytest.raises(SourceError, match=r"feature_1, .* and others are of no known shape") as caught:
        build(path)
    assert len(str(caught.value)) < 700


def test_questions_of_a_benchmark_are_dropped_where_rows_have_a_gold(build: Build, tmp_path: Path) -> None:
    test = json.loads((Path(graph.__file__).parents[1] / "tiny/problems/test_easy.jsonl").read_text().splitlines()[0])
    row = {"problem": test["problem"], "solution": f"\\boxed{{{test['answer']}}}"}
    path = lines(tmp_path / "rows.jsonl", row | {"answer": test["answer"]}, row, SHAPES["limo"])
    manifest, examples = build(path, columns={"id": None})
    assert manifest.counts["dropped_contaminated_exact"] == 1 and manifest.counts["not_checked"] == 1
    assert [example.completion for example in examples] == [row["solution"], SOLUTION]


def formats(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Path]:
    """The same rows as files of every format."""
    folder.mkdir()
    jsonl = lines(folder / "rows.jsonl", *rows)
    array = folder / "rows.json"
    array.write_text(json.dumps(rows, indent=1))
    table = folder / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    cells = folder / "rows.csv"
    with open(cells, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    windows = folder / "windows.jsonl"
    windows.write_bytes(b"\xef\xbb\xbf" + jsonl.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    paths = {"jsonl": jsonl, "json": array, "parquet": table, "csv": cells, "windows": windows}
    for path in list(paths.values()):
        with gzip.open(folder / f"{path.name}.gz", "wb") as handle:
            handle.write(path.read_bytes())
        paths[f"{path.name}.gz"] = folder / f"{path.name}.gz"
    return paths


@pytest.mark.parametrize("shape", ["alpaca", "openr1", "messages"])
def test_files_of_every_format_hold_the_same_rows(build: Build, tmp_path: Path, shape: str) -> None:
    for path in formats(tmp_path / "files", [SHAPES[shape]]).values():
        _, examples = build(path)
        assert [(example.messages, example.completion) for example in examples] == [([USER], SOLUTION)], path


def test_a_folder_is_read_in_the_order_of_its_names_and_by_split(build: Build, tmp_path: Path) -> None:
    for number, name in enumerate(["data/train-1.jsonl", "data/train-0.parquet", "data/test-0.jsonl", "README.md"]):
        path = tmp_path / "set" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        row = SHAPES["uwnsl"] | {"id": f"p{number}"}
        if path.suffix == ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist([row]), path)
        else:
            lines(path, row)
    assert [example.problem_id for example in build(tmp_path / "set")[1]] == ["p1", "p0"]
    assert [example.problem_id for example in build(tmp_path / "set", split="test")[1]] == ["p2"]


def test_training_reads_every_format_and_shape_itself(config: Any, tmp_path: Path) -> None:
    """A folder with all of them, in one run: no generate before it, and no problems."""
    folder = tmp_path / "mine"
    files = formats(folder, [SHAPES["alpaca"], {"instruction": MORE[0], "input": "", "output": MORE[1], "history": []}])
    lines(folder / "shapes.jsonl", *SHAPES.values(), {"prompt": MORE[0], "response": MORE[1]})
    nowhere = replace(config.problems, path="not/needed")
    data = replace(config.data, path=str(folder))
    config = replace(config, problems=nowhere, data=data, artifacts=str(tmp_path / "made"))
    execute(config, "train", [graph.trained(config, "student")], Console(quiet=True))
    manifest = Store(config.artifacts).manifest(graph.trained(config, "student"))
    assert manifest is not None and manifest.counts["examples"] == 2 * len(files) + len(SHAPES) + 1


@pytest.mark.parametrize(("row", "named"), [
    ({"messages": [], "completion": "2"}, "messages=[]; accepted: a list of turns"),
    ({"messages": "x"}, "messages='x'; accepted: a list of turns"),
    ({"messages": [{"role": "user"}], "completion": "2"}, "the content of a user turn of messages=None; accepted: a t"),
    ({"messages": [{"role": "narrator", "content": "x"}, ASSISTANT]}, "the role of a turn of messages='narrator'; acc"),
    ({"messages": [USER]}, "the last role of messages='user'; accepted: assistant"),
    ({"messages": [ASSISTANT]}, "the first role of messages='assistant'; accepted: user"),
    ({"messages": [USER, 3]}, "messages=[3]; accepted: a list of turns"),
    ({"messages": [USER], "completion": ""}, "completion=''; accepted: a text"),
    ({"prompt": "p", "completion": None}, "completion=None; accepted: a text"),
    ({"prompt": "p", "completion": float("nan")}, "completion=nan; accepted: a text"),
    ({"prompt": "p", "completion": 5}, "completion=5; accepted: a text"),
    ({"prompt": "p", "completion": "\ud83d"}, "completion='\\ud83d'; accepted: texts without a lone surrogate"),
    ({"problem": "p", "generations": "x"}, "generations='x'; accepted: a list of at least one text"),
    ({"instruction": "p", "output": "x", "history": [["a"]]}, "history=[['a']]; accepted: a list of pairs"),
    ({"conversations": [HUMAN, GPT], "system": 3}, "system=3; accepted: a text"),
    ({"text": "x"}, "the columns text are of no known shape; accepted: messages + completion, or problem + generat"),
    ({"tools": [{"name": "f"}], "messages": [USER, ASSISTANT]}, "tools=[{'name': 'f'}]; accepted: rows without tools"),
    ({"prompt": "p", "completion": "x", "id": 1.5}, "id=1.5; accepted: a text or a whole number"),
    ({"prompt": "p", "completion": "x", "finish_reason": "abort"}, "finish_reason='abort'; accepted: stop, eos"),
    ({"question": "p", "answer": "5"}, "answer='5'; accepted: a worked answer; data.columns={completion: answer} l"),
    ({"question": "p", "answer": "is 5", "solution": None}, "solution=None; accepted: a text"),
    ({"question": "p", "reasoning": "off", "response": "5"}, "reasoning='off'; accepted: a thought; data.columns={th"),
    ({"problem": "p", "generations": ["x"], "correctness": ["4"]}, "an entry of correctness='4'; accepted: true, fal"),
    ({"messages": [USER, ASSISTANT | {"tool_calls": [{"id": 1}]}]}, "tool_calls of a turn of messages=[{'id': 1}]; ac"),
    ({"messages": [USER, ASSISTANT | {"train": False}]}, "the marks (weight, train, loss) of the answers of mes"),
    ({"messages": [USER, ASSISTANT | {"weight": 0.5}]}, "weight of a turn of messages=0.5; accepted: 0, 1, true"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}, ASSISTANT]}, "the content of a user"),
    ({"prompt": "1", "completion": "2", "id": "1"}, "the id '1' is that of another question ("),
])  # fmt: skip
def test_refused_rows_are_one_line_with_file_row_field_and_value(
    build: Build, tmp_path: Path, row: dict[str, Any], named: str
) -> None:
    path = lines(tmp_path / "rows.jsonl", {"prompt": PROBLEM, "completion": SOLUTION, "id": "1"}, row)
    with pytest.raises(SourceError) as caught:
        build(path)
    assert f"rows.jsonl:2: {named}" in str(caught.value) and "\n" not in str(caught.value)


def in_parquet(*names: str) -> bytes:
    """A file of one row of texts, without compression."""
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.table([["q"] for _ in names], names=names)
    parquet.write_table(table, sink, compression="none", use_dictionary=False)
    return bytes(sink.getvalue())


DAMAGED, TWICE = in_parquet("prompt", "completion"), in_parquet("prompt", "prompt")


@pytest.mark.parametrize(("name", "content", "named"), [
    ("rows.jsonl", b"", "rows.jsonl has no rows"),
    ("rows.jsonl", b"\n\n", "rows.jsonl has no rows"),
    ("rows.jsonl", b'{"prompt": "\xff"}\n', "rows.jsonl:1: not UTF-8 (invalid start byte at byte 12)"),
    ("rows.jsonl", b'{"prompt": "a"\n', "rows.jsonl:1: not valid JSON"),
    ("rows.json", b'[{"prompt": "a"}', "rows.json: not valid JSON"),
    ("rows.json", b'{\n "data": []\n}', "rows.json: data has no rows; accepted: a list of at least one object"),
    ("rows.json", b'["a"]', "rows.json, row 1: expected a JSON object, not str"),
    ("rows.csv", b"prompt,completion\na\n", "rows.csv:2: 1 cells, and the header names 2 columns (prompt, completion)"),
    ("rows.csv", b"prompt,completion\n\xff,b\n", "rows.csv:2: not UTF-8"),
    ("rows.csv", b"prompt,completion,prompt\na,b,c\n", "rows.csv:1: the header names 'prompt' twice"),
    ("rows.csv", b'prompt,completion\n"a,b\n', "rows.csv:2: not valid CSV"),
    ("rows.parquet", b"PAR1", "rows.parquet: the Parquet file cannot be read"),
    ("rows.jsonl.gz", b"plain", "rows.jsonl.gz: the gzip file is damaged"),
    ("rows.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "rows.jsonl.gz: the gzip file is damaged"),
    ("rows.txt", b"x", "rows.txt is no file of rows; accepted: a file of rows (.jsonl, .json, .parquet, .csv"),
    ("rows.parquet", DAMAGED.replace(b"\x01\x00\x00\x00q", b"\xff\xff\xff\xffq"), "the Parquet file cannot be re"),
    ("rows.parquet", TWICE, "rows.parquet: it names 'prompt' twice; accepted: one column of a name"),
    ("folder/test.jsonl", b"{}", "has no files of split=train; accepted: test"),
    ("folder/notes.txt", b"x", "has no file of rows (it has notes.txt); accepted:"),
])  # fmt: skip
def test_refused_files_are_one_line(build: Build, tmp_path: Path, name: str, content: bytes, named: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        build(path.parent if "folder" in name else path)
    assert named in str(caught.value) and "\n" not in str(caught.value)
