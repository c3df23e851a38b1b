"""Rows of files, folders and the hub, one at a time: JSON lines, JSON arrays, Parquet, CSV, each also gzipped.

Every row comes with the words for it in errors: its file and line, or its number in the file.
"""

from __future__ import annotations

import csv
import errno
import gzip
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from micota.artifacts.provenance import files_below
from micota.artifacts.strict_json import repeated, strict_json
from micota.config.local_files import special
from micota.config.models import ROW_FILES, is_row_file
from micota.data.bounds import MAX_ROW, Lines, parquet_rows, whole
from micota.errors import SourceError

BUNDLED, HUB = "bundled:", "hub:"
FORMATS = f"a file of rows ({', '.join(ROW_FILES)}, each also with .gz), a folder of such files, {HUB}ORG/NAME, or \
{BUNDLED}NAME.jsonl"
SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
# What files name their list of rows; a row has no such columns.
LISTS = ("data", "rows", "examples", "instances", "items", "records", *SPLITS)
_LISTED = re.compile(rb'\{\s*"(?:%s)"\s*:' % "|".join(LISTS).encode())
Numbered = tuple[str, dict[str, Any]]  # where a row is, and the row
_SPLIT = re.compile(rf"(?:^|[-_./])({'|'.join(SPLITS)})(?=[-_./]|$)")
_HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
logger = logging.getLogger(__name__)


class Location(Protocol):
    """Where rows are."""

    @property
    def path(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def subset(self) -> str | None: ...
    @property
    def split(self) -> str: ...


def numbered_rows(source: Location, limit: int | None = None, *, streaming: bool = False) -> Iterator[Numbered]:
    """Yield the rows of a file, folder or hub data set, each with the words for it in errors.

    Args:
        limit: read only this many of the first rows.
        streaming: read a hub data set over the network, without a copy on the disk.

    Raises:
        SourceError: it is not there, of an unknown format, or damaged; the text names the file and row.
    """
    assert source.path is not None
    rows = _rows(source, source.path, streaming)
    return rows if limit is None else islice(rows, limit)


def _rows(source: Location, path: str, streaming: bool) -> Iterator[Numbered]:
    if path.startswith(BUNDLED):
        if source.subset is not None:
            raise SourceError(f"subset={source.subset}: {path} is no set of the hub; accepted: subset=null")
        return file_rows(bundled("problems", path))
    if path.startswith(HUB):
        return _hub_rows(source, path.removeprefix(HUB), streaming)
    local = Path(path)
    if source.subset is not None and local.exists():
        raise SourceError(f"subset={source.subset}: {path} is no set of the hub; accepted: subset=null")
    if local.is_dir():
        return _folder_rows(local, source.split)
    return file_rows(local) if local.exists() or is_row_file(path) else _hub_rows(source, path, streaming)


def bundled(folder: str, path: str) -> Path:
    """Return the file or folder of ``bundled:NAME`` in the package.

    Raises:
        SourceError: there is none of that name.
    """
    root = Path(str(resources.files("micota.tiny"))) / folder
    name = path.removeprefix(BUNDLED)
    entry = root / name
    if name in ("", ".", "..") or entry.parent != root or not entry.exists():
        options = ", ".join(
            sorted(BUNDLED + known.name for known in root.iterdir() if known.suffix in ("", ".jsonl", ".csv"))
        )
        raise SourceError(f"{path!r} is not bundled; accepted: {options}")
    return entry


def file_rows(path: Path) -> Iterator[Numbered]:
    """Yield the rows of one file, whose name shows its format.

    Raises:
        SourceError: it has no rows, or a row cannot be read.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix
    readers = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": json_lines}
    if kind not in readers:
        raise SourceError(f"{path} is no file of rows; accepted: {FORMATS}")
    number = 0
    with _reading(path):
        for number, row in enumerate(readers[kind](path), start=1):  # noqa: B007 (counted)
            yield row
    if number == 0:
        raise SourceError(f"{path} has no rows; accepted: {FORMATS}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise for a damaged file into one line.

    Raises:
        SourceError: the text names the file.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: the gzip file is damaged ({error}); accepted: a whole file of gzip") from error
    except OSError as error:  # of a link that leads nowhere, a disk that fails
        raise SourceError(
            f"{path} cannot be read ({error.strerror or error}); accepted: a file that this user can read, or a folder "
            "without it"
        ) from error


def _open(path: Path) -> IO[bytes]:
    if (kind := special(path)) is not None:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    opened: Any = gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")
    return opened  # type: ignore[no-any-return]


def json_lines(path: Path) -> Iterator[Numbered]:
    """Yield the objects of a file with one a line, whatever its name; empty lines are skipped.

    Raises:
        SourceError: a line is no JSON object.
    """
    with _open(path) as handle:  # bytes: text mode would raise outside the loop for a line that is not UTF-8
        lines = Lines(handle, path)
        for number, line in enumerate(lines, start=1):
            lines.num_bytes = 0
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of Windows programs
            if line.strip():
                yield f"{path}:{number}", _object(_parsed(line, f"{path}:{number}"), f"{path}:{number}")


def _json(path: Path) -> Iterator[Numbered]:
    """A list of objects, or JSON lines under another name, as the hub has them."""
    with _open(path) as handle:
        content = whole(handle, path)
    text = content.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"["):
        is_one = text.partition(b"\n")[0].strip() == b"{" or _LISTED.match(text) is not None
        if not is_one:
            del content, text
            yield from json_lines(path)
            return
    del text
    rows = _listed(_parsed(content, str(path)), path)
    del content
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", _object(row, f"{path}, row {number}")


def _listed(content: Any, path: Path) -> list[Any]:
    """The list of rows in a JSON file: all of it, or the only list of an object, as ``{"data": [...]}``.

    Raises:
        SourceError: there is no list of rows in it, or several.
    """
    if isinstance(content, list):
        return content
    lists = [name for name, value in content.items() if isinstance(value, list) and name in LISTS]
    if len(lists) != 1:
        has = f"{len(lists)} lists of rows ({', '.join(lists)})" if lists else "no list of rows"
        raise SourceError(
            f"{path}: one JSON object with {has}; accepted: a list of objects, an object a line, or one list as "
            f'{{"data": [...]}} (or {", ".join(LISTS[1:])})'
        )
    rows: list[Any] = content[lists[0]]
    if not rows:
        raise SourceError(f"{path}: {lists[0]} has no rows; accepted: a list of at least one object")
    return rows


def _parsed(text: bytes, where: str) -> Any:
    try:
        return strict_json(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{where}: not UTF-8 ({error.reason} at byte {error.start}); accepted: text in UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: not valid JSON in UTF-8 ({error}); accepted: a JSON object a line") from None


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise SourceError(
            f"{where}: expected a JSON object, not {type(row).__name__}; accepted: an object a line in .jsonl, a list "
            "of objects in .json"
        )
    return row


def _csv(path: Path) -> Iterator[Numbered]:
    csv.field_size_limit(MAX_ROW)  # the default of 131,072 is too few for a chain of thought
    number = 0
    with _open(path) as raw:
        first = raw.readline(MAX_ROW)
        # Spreadsheets write semicolons where the comma is the decimal point.
        others = () if b"," in first else (b";", b"\t")
        delimiter = "\t" if ".tsv" in path.suffixes else next((one.decode() for one in others if one in first), ",")
        raw.seek(0)
        lines = Lines(raw, path)
        texts = (line.decode("utf-8-sig" if number == 0 else "utf-8") for line in lines)
        reader = csv.reader(texts, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next((cells for cells in reader if cells), [])]
            if (twice := repeated(header)) is not None:
                raise SourceError(f"{path}:1: the header names {twice!r} twice; accepted: one column of a name")
            for cells in reader:
                number, lines.num_bytes = reader.line_num, 0
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise SourceError(
                        f"{path}:{number}: {len(cells)} cells, and the header names {len(header)} columns "
                        f"({', '.join(header)[:80]}); accepted: as many cells as columns, texts with commas in quotes"
                    )
                yield f"{path}:{number}", dict(zip(header, map(_with_line_breaks, cells), strict=True))
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}:{reader.line_num + 1}: not UTF-8 ({error.reason}); accepted: text in UTF-8"
            ) from None
        except csv.Error as error:
            raise SourceError(
                f"{path}:{reader.line_num}: not valid CSV ({error}); accepted: cells with commas, quotes or "
                "line breaks in double quotes"
            ) from None


def _with_line_breaks(cell: str) -> str:
    """A cell with line breaks as all other formats have them: programs of Windows write two characters for each."""
    return cell.replace("\r\n", "\n").replace("\r", "\n") if "\r" in cell else cell


def _parquet(path: Path) -> Iterator[Numbered]:
    import pyarrow

    try:
        with _open(path) as handle:
            for number, row in enumerate(parquet_rows(handle, path), start=1):
                yield f"{path}, row {number}", row
    except (FileNotFoundError, PermissionError, gzip.BadGzipFile):
        raise
    except (pyarrow.ArrowException, OSError) as error:  # a damaged page is a plain OSError
        raise SourceError(
            f"{path}: the Parquet file cannot be read ({' '.join(str(error).split())[:200]}); accepted: a "
            "whole file of Parquet"
        ) from error


def _folder_rows(folder: Path, split: str) -> Iterator[Numbered]:
    """The rows of all files of a folder, in the order of their names; those of one split, where names tell splits."""
    if (folder / "dataset_info.json").exists() and any(folder.glob("*.arrow")):
        yield from _saved_rows(folder)
        return
    # A link that leads nowhere is read, too: its rows would be missing without a word.
    files = [path for path in files_below(folder) if not _is_hidden(path, folder)]
    chosen = [path for path in files if is_row_file(path.name)]
    if not chosen:
        seen = ", ".join(str(path.relative_to(folder)) for path in files[:5]) or "nothing"
        raise SourceError(f"the folder {folder} has no file of rows (it has {seen}); accepted: {FORMATS}")
    by_split: dict[str, list[Path]] = {}
    for path in chosen:
        named = _SPLIT.search(str(path.relative_to(folder)))
        by_split.setdefault(named[1] if named else "", []).append(path)
    chosen = by_split.get(split) or by_split.get("", [])
    if not chosen:
        raise SourceError(f"the folder {folder} has no files of split={split}; accepted: {', '.join(by_split)}")
    if others := sorted(set(by_split) - {split, ""}):
        logger.info("%s: the files of split %s, and not those of %s", folder, split, ", ".join(others))
    for path in chosen:
        yield from file_rows(path)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _saved_rows(folder: Path) -> Iterator[Numbered]:
    """The rows of a folder that ``Dataset.save_to_disk`` of the library datasets wrote."""
    import datasets

    for number, row in enumerate(datasets.load_from_disk(str(folder)), start=1):
        yield f"{folder}, row {number}", row


def _hub_rows(source: Location, name: str, streaming: bool) -> Iterator[Numbered]:
    if not _HUB_NAME.fullmatch(name):
        raise SourceError(f"path={source.path!r} is no name of the hub; accepted: {FORMATS}")
    if Path(name).exists():  # the library would read it instead, and nothing would note what is in it
        raise SourceError(f"path={source.path!r}: there is a folder {name} here; accepted: path={name} to read it")
    import datasets
    import httpx

    # Raised for an unknown set, subset or split, for files of no supported format, and if the hub is out of reach.
    failures = (OSError, ValueError, RuntimeError, httpx.HTTPError, datasets.exceptions.DatasetsError)
    try:
        number = 0
        for subset in source.subset.split("+") if source.subset else [None]:
            rows: Iterable[Mapping[str, Any]] = datasets.load_dataset(
                name, subset, split=source.split, revision=source.revision, streaming=streaming
            )
            for row in rows:
                number += 1
                yield f"{name}, row {number}", dict(row)
    except failures as error:
        settings = ", ".join(f"{name}={getattr(source, name)!r}" for name in ("path", "subset", "split", "revision"))
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"the rows of {settings} cannot be read ({reason}); accepted: {FORMATS}; of the hub a data set with its "
            "subset and split"
        ) from error
