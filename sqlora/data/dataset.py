"""Rows of question, context and answer: from a file or the hub, checked, split, and tokenised."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlora.data.row_files import SUFFIXES, check_columns, is_file, read_records, read_text
from sqlora.model import base_models
from sqlora.prompt import encoding
from sqlora.settings.command_line import Settings
from sqlora.storage import download
from sqlora.storage.atomic import replace_file
from sqlora.system.errors import MENDABLE, UserError

Row = dict[str, str]  # those of EXTRA_DATA have a whole number beside the texts: weight
COLUMNS = ("question", "context", "answer")
DESCRIPTIONS = ("README.md", ".huggingface.yaml")  # of a hub dataset: which files are its data
IGNORED_LABEL = -100  # the target that torch's cross entropy leaves out


def load_rows(path: str, setting: str, columns: tuple[str, ...] = COLUMNS) -> list[Row]:
    """Rows of a file (json array, jsonl, csv, parquet), of a folder of such files, or of a hub dataset's train split.

    Every row has the `columns`, each a non-empty text; an "answer" that is not asked for is kept where it is known.
    Raises UserError, naming `setting`, for a file that is missing, empty or malformed and for a row that lacks text.
    """
    where = f"{setting} ({path})"
    file = Path(path)
    check = check_row
    if is_file(file, where):
        records = read_records(file, columns, where)
    elif file.is_dir() or looks_like_hub_id(path):
        records, check = _read_dataset(path, where), check_row_of_many
    else:
        raise UserError(f"{where}: no such file; name a {', '.join(SUFFIXES)} file or a hub id such as owner/name")
    rows = [check(record, number, columns, where) for number, record in enumerate(records, start=1)]
    if not rows:
        raise UserError(f"{where}: there is no row in it")
    return rows


def load_training_rows(settings: Settings) -> list[Row]:
    """The rows of DATA_PATH and, before them, those of EXTRA_DATA with EXTRA_WEIGHT as their "weight".

    They come first so that it is they that stay where a row stands twice. Raises UserError as `load_rows` does.
    """
    extra = load_rows(settings.EXTRA_DATA, "EXTRA_DATA (--extra-data)") if settings.EXTRA_DATA else []
    rows = load_rows(settings.DATA_PATH, "DATA_PATH (--data-path)")
    return [row | {"weight": settings.EXTRA_WEIGHT} for row in extra] + rows


def load_samples(settings: Settings) -> list[Row]:
    """The rows to answer: QUESTION with CONTEXT, or else those of TEST_DATA, with their answers where known.

    Raises UserError as `load_rows` does, for a CONTEXT that names a .sql file which cannot be read, and if EVALUATE asks
    for what no row has: the answer.
    """
    if not settings.QUESTION:
        rows = load_rows(settings.TEST_DATA, "TEST_DATA (--test-data)", ("question", "context"))
        if settings.EVALUATE and not any("answer" in row for row in rows):
            raise UserError(f"EVALUATE (--evaluate) is set, and no row of TEST_DATA (--test-data) {settings.TEST_DATA!r} has an "
                            f"answer to compare with; add a column answer, or --no-evaluate")
        return rows
    context = settings.CONTEXT
    if context.lower().endswith(".sql"):
        where = f"CONTEXT (--context) ({context})"
        if not is_file(context, where):
            raise UserError(f"{where}: no such file; name a .sql file that is there, or give CREATE TABLE text")
        context = read_text(Path(context), where)
    return [{"question": settings.QUESTION, "context": context}]


def write_rows(path: Path, rows: list[dict]) -> None:
    """One JSON object a line, in UTF-8; whole, or the file stays as it was."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def data_hash(rows: list[Row]) -> str:
    """Sixteen hexadecimal digits that change with any row or with their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def looks_like_hub_id(path: str) -> bool:
    return path.count("/") <= 1 and not path.lower().endswith(SUFFIXES) and path[0] not in "./~\\"


def _read_dataset(name: str, where: str) -> Iterable[object]:
    with readable(where):
        builder = dataset_builder(name, where)
        _fetch_data_files(builder.config.data_files or {}, where)
        builder.download_and_prepare()
        return train_split(builder.as_dataset(), where)


def dataset_builder(name: str, where: str):
    """The reader of a folder or a hub dataset, in the library datasets; without the hub, of what stands in its cache."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bar()
    folder = Path(name)
    if (folder / datasets.config.DATASET_STATE_JSON_FILENAME).exists():
        raise UserError(f"{where}: save_to_disk wrote it; write it with to_parquet instead")
    if not folder.is_dir():
        files = base_models.list_files("dataset", name)
        if files is None:  # datasets would ask for half a minute before it looks into the cache
            huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        elif described := [file for file in files if file in DESCRIPTIONS]:
            download.fetch(where, "dataset", name, described)
    return datasets.load_dataset_builder(name)


def train_split(splits: dict, where: str):
    """Raises UserError if there is none."""
    if "train" not in splits:
        raise UserError(f"{where}: it has no train split, only {', '.join(splits)}; save the split as .jsonl and name the file")
    return splits["train"]


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """What datasets raises while it reads, as a UserError that begins with `where`."""
    import datasets
    from huggingface_hub import utils as errors

    try:
        yield
    except (errors.RepositoryNotFoundError, errors.HFValidationError,
            getattr(datasets.exceptions, "DatasetNotFoundError", errors.RepositoryNotFoundError)):
        raise UserError(f"{where}: neither a file or folder nor a public dataset on the hub has this name; correct it") from None
    except UserError:
        raise
    except download.network_errors() as error:
        raise UserError(f"{where}: it is not in the cache, and the hub is out of reach ({type(error).__name__}); "
                        f"{base_models.WAYS_OUT}") from None
    except Exception as error:  # of what kind ever: its readers' own errors come through, and are about the files
        cause = error.__cause__ or error
        if getattr(cause, "errno", None) in MENDABLE:
            raise cause from None
        raise UserError(f"{where}: datasets cannot read it: {type(cause).__name__}: {cause}; mend it (of a single .jsonl or .csv "
                        f"file, python -m sqlora.data FILE tells the line)") from None


def _fetch_data_files(data_files: dict[str, list[str]], where: str) -> None:
    """The files of a hub dataset that datasets is about to read, into the cache in which it looks for them, and checked."""
    from huggingface_hub import HfFileSystem

    files: dict[tuple[str, str], list[str]] = {}
    for url in (url for urls in data_files.values() for url in urls if url.startswith("hf://datasets/")):
        file = HfFileSystem().resolve_path(url)
        files.setdefault((file.repo_id, file.revision), []).append(glob.escape(file.path_in_repo))
    for (repo, revision), names in files.items():
        download.fetch(where, "dataset", repo, names, revision=revision)


def check_row(record: object, number: int, columns: tuple[str, ...], where: str) -> Row:
    """The columns of a record. Raises UserError, which tells the row's number, if one is not there or is no whole text."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: row {number} is a {type(record).__name__}, not an object with {', '.join(columns)}")
    check_columns(list(record), columns, f"{where}: row {number}")
    for column in columns:
        value = record[column]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: row {number}: {column} is {value!r}; it must be a text that is not empty")
    kept = {column: record[column] for column in columns}
    if isinstance(record.get("answer"), str) and record["answer"].strip():
        kept["answer"] = record["answer"]
    for column, value in kept.items():
        if re.search("[\ud800-\udfff]", value):  # JSON can spell it; no file, terminal or tokenizer takes it
            raise UserError(f"{where}: row {number}: {column} is {value!r}, which holds half of a surrogate pair; mend the text")
    return kept


def check_row_of_many(record: object, number: int, columns: tuple[str, ...], where: str) -> Row:
    """The same for a row of several files, which is shown, since its number does not tell in which it is."""
    try:
        return check_row(record, number, columns, where)
    except UserError as error:
        raise UserError(f"{error}; rows are numbered as they are read, and this one is {shortened(record)}") from None


def shortened(record: object) -> str:
    return textwrap.shorten(repr(record), 300, placeholder=" …")


@dataclass(frozen=True)
class Tokenised:
    """Rows as the trainer takes them: dicts of `input_ids` and `labels`, two equally long lists; and the rows left out."""

    rows: list[dict[str, list[int]]]
    too_long: int


@dataclass(frozen=True)
class TokenisedSplits:
    train: Tokenised
    validation: Tokenised

    def with_training(self, rows: Iterable[dict]) -> TokenisedSplits:
        """The same validation rows, and other training rows: those of a stream."""
        return TokenisedSplits(Tokenised(rows, self.train.too_long), self.validation)


def tokenise_splits(train: list[Row], validation: list[Row], tokenizer, settings: Settings) -> TokenisedSplits:
    """Both splits, tokenised, a row of weight n standing n times in training. Raises UserError if no row is short enough."""
    weighted = [row for row in train for _ in range(row.get("weight", 1))]
    splits = TokenisedSplits(tokenise_rows(weighted, tokenizer, settings), tokenise_rows(validation, tokenizer, settings))
    for name, split in (("training", splits.train), ("validation", splits.validation)):
        if not split.rows:
            raise UserError(f"every {name} row is longer than MAX_LENGTH (--max-length) {settings.MAX_LENGTH} tokens; raise it")
    return splits


def tokenise_rows(rows: list[Row], tokenizer, settings: Settings) -> Tokenised:
    """Prompt and SQL as ids; labels are the ids of the SQL and its EOS, and with TRAIN_ON_INPUTS of the prompt too.

    A row of more than MAX_LENGTH ids is counted and left out, or with LONG_ROWS "raise" raises UserError. It is never
    cut: half a query teaches to write half queries.
    """
    prompts = encoding.encode_prompts(tokenizer, rows, settings.PROMPT_ORDER)
    answers = encoding.encode_answers(tokenizer, [row["answer"] for row in rows])
    kept, too_long = [], 0
    for row, start, answer in zip(rows, prompts, answers, strict=True):
        ids = start + answer
        if len(ids) > settings.MAX_LENGTH:
            if settings.LONG_ROWS == "raise":
                raise UserError(f"MAX_LENGTH (--max-length) is {settings.MAX_LENGTH}, and a row has {len(ids)} tokens; raise it, "
                                f"or set LONG_ROWS to drop; the row asks {row['question']!r}")
            too_long += 1
            continue
        labels = ids if settings.TRAIN_ON_INPUTS else [IGNORED_LABEL] * len(start) + answer
        kept.append({"input_ids": ids, "labels": labels})
    return Tokenised(kept, too_long)
