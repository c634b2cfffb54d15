"""Data larger than memory: rows that are read while they are trained on, shuffled within a buffer.

The library datasets reads and shuffles: the order of the files, up to ten of them at a time, and within SHUFFLE_BUFFER
rows. The order depends only on the run's seed and the epoch, so a position in it is a number of rows.
"""

from __future__ import annotations

import csv
import glob
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, IterableDataset

from sqlora.data import dataset, hub_dataset, split, sql_check, tokenise
from sqlora.data.dataset import PLAIN, Example, Reading
from sqlora.data.layouts import COLUMNS
from sqlora.settings.settings import Settings
from sqlora.storage import hub
from sqlora.storage.row_files import is_file, kind, quotes_fields, read_beginning
from sqlora.system.console import note
from sqlora.system.errors import UserError

# of datasets, for a file alone
READERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
# pandas would take a field too many for row names that shift the columns, and the text NULL for no value
CSV_AS_WRITTEN = {"index_col": False, "keep_default_na": False}
ROWS_PER_READ = 256  # rows that are checked and tokenised at a time
SHOWN = 3  # rows that cannot be used, as examples

StreamPosition = tuple[int, int, int]  # an epoch, the rows read in it before a chunk, the rows yielded of that chunk


class Source:
    """The records of DATA_PATH, in the shuffled order of an epoch."""

    def __init__(self, data_path: str, seed: int, buffer: int, reading: Reading = PLAIN):
        """`buffer` rows are shuffled at a time.

        Raises UserError if `data_path` is not there, cannot be read, or has no train split.
        """
        self.where = f"DATA_PATH (--data-path) ({data_path})"
        self.most = buffer
        path = Path(data_path)
        self.reader = reading.reader(self.where, path if is_file(path, self.where) else None)
        with hub_dataset.readable(self.where):
            import datasets

            datasets.disable_progress_bar()
            if is_file(path, self.where):
                if kind(path) not in READERS:
                    raise UserError(
                        f"{self.where}: unknown kind of file {path.suffix!r}; it must be one of {', '.join(READERS)}"
                    )
                if path.stat().st_size == 0:
                    raise UserError(f"{self.where}: the file is empty")
                options: dict[str, Any] = {}
                if kind(path) == ".tsv":
                    quoting = csv.QUOTE_MINIMAL if quotes_fields(read_beginning(path)) else csv.QUOTE_NONE
                    options = {"sep": "\t", "quoting": quoting}
                builder = datasets.load_dataset_builder(
                    READERS[kind(path)], data_files={"train": [glob.escape(str(path))]}, **options
                )
            elif path.is_dir() or dataset.looks_like_hub_id(data_path):
                builder = hub_dataset.dataset_builder(data_path, self.where)
            else:
                raise UserError(
                    f"{self.where}: no such file; name a {', '.join(READERS)} file, a folder of them, or a hub id "
                    f"such as owner/name"
                )
            for name, value in CSV_AS_WRITTEN.items():
                if hasattr(builder.config, name):
                    setattr(builder.config, name, value)
            splits = builder.as_streaming_dataset()
        self.files = [str(file) for file in (builder.config.data_files or {}).get("train", [])]
        self.dataset = hub_dataset.train_split(splits, self.where).shuffle(seed, buffer_size=self.most)

    def records(self, epoch: int = 0) -> Iterator[object]:
        """The records of an epoch. Raises UserError."""
        self.dataset.set_epoch(epoch)
        with hub_dataset.readable(self.where):
            yield from self.dataset

    def first_rows(self) -> list[Example]:
        """The first SHUFFLE_BUFFER rows, which are checked and split. Raises UserError for one that lacks a text."""
        records = enumerate(itertools.islice(self.records(), self.most), start=1)
        read = (dataset.check_row_of_many(record, number, COLUMNS, self.reader) for number, record in records)
        rows = [row for row in read if row]
        self.reader.say()
        if not rows:
            raise UserError(f"{self.where}: there is no row in it")
        return rows

    def hash(self, rows: list[Example]) -> str:
        """Sixteen hexadecimal digits over the first rows and each file: its hub commit and name, or as `files_hash`."""
        remote = [file for file in self.files if "://" in file]
        local = [Path(file) for file in self.files if "://" not in file]
        return hub.files_hash(local, f"{dataset.data_hash(rows)} {remote}".encode())


class Stream(IterableDataset):
    """Endless rows for training, epoch after epoch: dicts of `input_ids`, `labels` and `place`, the position after it.

    Rows are dropped or repaired as CHECK_DATA says. Left out and counted are rows that lack a text, that are longer
    than MAX_LENGTH, that share with a validation row what splits are `separated_by`, or anything with HOLDOUT.
    """

    def __init__(self, source: Source, validation: list[Example], separated_by: str, tokenizer, settings: Settings):
        self.source = source
        self.tokenizer = tokenizer
        self.settings = settings
        self.reserved = split.Reserved(
            split.tested_ties(settings.HOLDOUT, dataset.reading_of(settings))
            | split.validation_ties(validation, separated_by)
        )
        self.position: StreamPosition = (0, 0, 0)
        self.counts: Counter = Counter()

    def resume(self, position: Sequence[int]) -> None:
        """Lets the next iteration begin at a position that a run has reached."""
        epoch, read, given = position
        self.position = (epoch, read, given)

    def loader(self, arguments, collate: Callable[[list[dict]], dict]) -> DataLoader:
        """Its batches on the device of a Trainer's `arguments`."""
        # With a generator, since a resumed run would otherwise draw a random number more than one that ran straight.
        loader = DataLoader(
            self,
            arguments.train_batch_size,
            collate_fn=collate,
            pin_memory=arguments.dataloader_pin_memory,
            generator=torch.Generator(),
        )
        return prepare_data_loader(
            loader,
            arguments.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
            non_blocking=arguments.dataloader_pin_memory,
        )

    def __iter__(self) -> Iterator[dict]:
        """Raises UserError if a whole epoch yields no row, or if the data can no longer be read."""
        epoch, read, given = self.position
        while True:
            whole, any_row = read == 0, False
            records = self.source.records(epoch)
            unread = itertools.islice(records, read, None)
            while chunk := list(itertools.islice(unread, ROWS_PER_READ)):
                rows = self.usable(chunk, read + 1)
                tokenised = tokenise.tokenise_rows(rows, self.tokenizer, self.settings, epoch=epoch)
                self.counts[sql_check.TOO_LONG] += tokenised.too_long
                for number, row in enumerate(tokenised.rows[given:], start=given + 1):
                    yield row | {"place": (epoch, read, number)}
                any_row = any_row or bool(tokenised.rows)
                read, given = read + len(chunk), 0
            if whole and not any_row:
                raise UserError(f"{self.source.where}: no row of it is left for training ({self})")
            epoch, read, given = epoch + 1, 0, 0

    def __str__(self) -> str:
        left_out = "".join(f"; {name}: {count:,}" for name, count in self.counts.items() if count and name != "read")
        return f"{self.counts['read']:,} rows read{left_out}"

    def usable(self, records: list[object], first: int) -> list[Example]:
        """The rows that may train, repaired if CHECK_DATA says so. The number of the first record is `first`."""
        self.counts["read"] += len(records)
        rows = [row for number, record in enumerate(records, start=first) if (row := self._whole(record, number))]
        mode = self.settings.CHECK_DATA
        if mode != "off":
            checked = sql_check.apply_findings(rows, sql_check.inspect_few(rows, self.settings.SQL_DIALECT), mode)
            dropped = len(rows) - len(checked.rows)
            self.counts.update(checked.counts | {"dropped by the check": dropped, "repaired": checked.repaired})
            rows = checked.rows
        reasons = [self.reserved.reason(row) for row in rows]
        self.counts.update(f"with a {reason} of the rows held out" for reason in reasons if reason)
        return [row for row, reason in zip(rows, reasons, strict=True) if not reason]

    def _whole(self, record: object, number: int) -> Example | None:
        try:
            return dataset.read_row(record, number, COLUMNS, self.source.reader)
        except UserError as error:  # hours into a run, perhaps; what is wrong with all rows was seen in the first
            self.counts["without a text"] += 1
            if self.counts["without a text"] <= SHOWN:
                note(f"{error}; left out: {dataset.shortened(record)}")
            return None
