"""The rows of a run: read, checked, split and tokenised; for finetune.py and for measuring on its validation rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlora.data import dataset, fitting, split, sql_check, streaming, tokenise
from sqlora.data.dataset import Example
from sqlora.data.sql_check import Checked
from sqlora.settings.settings import Settings
from sqlora.system import distributed


@dataclass(frozen=True)
class TrainingRows:
    """The rows of DATA_PATH and EXTRA_DATA, in their splits.

    `read` are all rows as they were read, or the first of a stream, whose `source` gives the others during training.
    `overlaps` counts the rows left out for HOLDOUT, by reason; `separated_by` says what training and validation do not
    share: tables or SQL.
    """

    read: list[Example]
    checked: Checked
    overlaps: dict[str, int]
    train: list[Example]
    validation: list[Example]
    separated_by: str
    source: streaming.Source | None

    def data_hash(self) -> str:
        """Sixteen hexadecimal digits that identify the data."""
        return self.source.hash(self.read) if self.source else dataset.data_hash(self.read)

    def origin(self, settings: Settings) -> dict[str, object]:
        """What sqlora.json says about the data, the style in which their schemas were shown, and the dialect of their
        SQL.
        """
        rows = "streamed" if self.source else len(self.read)
        style = fitting.style_of(self.read, settings.SCHEMA_STYLE)
        return {
            "id": settings.DATA_PATH,
            "hash": self.data_hash(),
            "rows": rows,
            "schema_style": style,
            "sql_dialect": settings.SQL_DIALECT,
        }

    def tokenise(self, tokenizer, settings: Settings) -> tokenise.TokenisedSplits:
        """Both splits as token ids. Raises UserError if too few rows are left."""
        return tokenise.tokenise_splits(self.train, self.validation, tokenizer, settings)

    def stream(self, tokenizer, settings: Settings) -> streaming.Stream | None:
        """The rows that are read during training, with STREAMING."""
        if not self.source:
            return None
        return streaming.Stream(self.source, self.validation, self.separated_by, tokenizer, settings)


def load(settings: Settings) -> TrainingRows:
    """Reads the rows, drops or repairs what CHECK_DATA finds and what HOLDOUT keeps out, and splits the rest.

    In a distributed run each host reads the files once, and one process checks the rows for all. Raises UserError for
    rows that cannot be read, or too few of them.
    """
    reading = dataset.reading_of(settings)
    source = None
    if settings.STREAMING:
        source = streaming.Source(settings.DATA_PATH, settings.SEED, settings.SHUFFLE_BUFFER, reading)
    read = distributed.local_main_process_first(
        source.first_rows
        if source
        else lambda: dataset.load_training_rows(settings.DATA_PATH, settings.EXTRA_DATA, settings.EXTRA_WEIGHT, reading)
    )
    checked = distributed.main_process_first(
        lambda: sql_check.check_rows(read, settings.CHECK_DATA, settings.CHECKPOINT_DIR, settings.SQL_DIALECT)
    )
    kept, overlaps = split.hold_out(checked.rows, settings.HOLDOUT, reading)
    train, validation, separated_by = split.split_rows(kept, settings.VALIDATION_ROWS, settings.SEED)
    return TrainingRows(read, checked, overlaps, train, validation, separated_by, source)
