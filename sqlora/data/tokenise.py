"""Rows as token ids and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlora.data.dataset import Example, reading_of
from sqlora.data.fitting import SchemaFitter, styled
from sqlora.data.layouts import PLAIN_CONTEXT
from sqlora.data.renaming import renamed_copies
from sqlora.data.schema_variants import Encoded, EpochRows, vary
from sqlora.prompt import encoding
from sqlora.settings.settings import Settings
from sqlora.sql.table_names import without_aliases
from sqlora.system.errors import UserError

IGNORED_LABEL = -100  # the target that torch's cross entropy leaves out


@dataclass(frozen=True)
class Tokenised:
    """Rows as the trainer takes them: dicts of `input_ids` and `labels`, two equally long lists; and how many were left
    out, and how many have fewer tables than they had.
    """

    rows: Sequence[Encoded]
    too_long: int
    shortened: int = 0


@dataclass(frozen=True)
class TokenisedSplits:
    """The training rows and the validation rows as token ids."""

    train: Tokenised
    validation: Tokenised

    def with_training(self, rows: Any) -> TokenisedSplits:
        """The same validation rows with other training rows, those of a stream."""
        return TokenisedSplits(Tokenised(rows, self.train.too_long, self.train.shortened), self.validation)


def tokenise_splits(train: list[Example], validation: list[Example], tokenizer, settings: Settings) -> TokenisedSplits:
    """Both splits as token ids, with n copies of a training row of weight n. Schemas of databases are shown to the
    training rows in another order in each epoch.

    Raises UserError if all rows of a split are too long.
    """
    weighted = [row for row in _taught(train, settings, copies=True) for _ in range(row.get("weight", 1))]
    weighted = styled(weighted, settings.SCHEMA_STYLE, reading_of(settings))
    texts, trained = _fit(weighted, tokenizer, settings, keeps_gold=True)
    if any(PLAIN_CONTEXT in row for row in texts):
        rows = EpochRows(texts, trained.rows, lambda some: _encode(some, tokenizer, settings), settings)
        trained = replace(trained, rows=rows)
    splits = TokenisedSplits(trained, tokenise_rows(validation, tokenizer, settings, keeps_gold=False))
    for name, split in (("training", splits.train), ("validation", splits.validation)):
        if not split.rows:
            raise UserError(
                f"every {name} row is longer than MAX_LENGTH (--max-length) {settings.MAX_LENGTH} tokens; raise it"
            )
    return splits


def tokenise_rows(
    rows: list[Example], tokenizer, settings: Settings, keeps_gold: bool = True, epoch: int | None = None
) -> Tokenised:
    """Rows as token ids, as `tokenise_splits` gives validation rows, or training rows if it `keeps_gold`; with an
    `epoch`, the schemas of databases are as they are then.
    """
    rows = _taught(rows, settings, copies=epoch is not None)
    rows = styled(rows, settings.SCHEMA_STYLE, reading_of(settings))
    if epoch is not None:
        rows = vary(rows, settings.SEED, epoch)
    return _fit(rows, tokenizer, settings, keeps_gold)[1]


def _taught(rows: list[Example], settings: Settings, copies: bool) -> list[Example]:
    """The rows with their SQL as it is taught, and the renamed copies of them."""
    dialect = settings.SQL_DIALECT
    if copies:
        rows = [*rows, *renamed_copies(rows, settings.RENAMED_COPIES, settings.SEED, dialect)]
    if settings.TABLE_ALIASES == "keep":
        return rows
    return [row | {"answer": without_aliases(row["answer"], dialect)} for row in rows]


def _fit(rows: list[Example], tokenizer, settings: Settings, keeps_gold: bool) -> tuple[list[Example], Tokenised]:
    """The rows that fit, as texts and as `_encode` gives them.

    With LONG_ROWS "shorten" a row of more than MAX_LENGTH ids gets fewer tables: those of its SQL, if it `keeps_gold`,
    and the most relevant to its question. Others are counted and left out, or with "raise" raise UserError. None is
    cut: half a query teaches to write half queries.
    """
    most = settings.MAX_LENGTH
    fitter = SchemaFitter(tokenizer, settings.prompt_layout, settings.SQL_DIALECT)
    texts, kept, shortened, too_long = [], [], 0, 0
    for row, encoded in zip(rows, _encode(rows, tokenizer, settings), strict=True):
        if (length := len(encoded["input_ids"])) > most:
            answer = length - len(encoding.encode_prompts(tokenizer, [row], settings.prompt_layout)[0])
            shortens = settings.LONG_ROWS == "shorten"
            fitted = fitter.fit(row, most - answer, keeps_gold) if shortens else None
            if fitted is None:
                if settings.LONG_ROWS == "raise":
                    raise UserError(
                        f"MAX_LENGTH (--max-length) is {most}, and a row has {length} tokens; raise it, or set "
                        f"LONG_ROWS to drop; the row asks {row['question']!r}"
                    )
                too_long += 1
                continue
            shortened += 1
            row = fitted
            (encoded,) = _encode([row], tokenizer, settings)
        texts.append(row)
        kept.append(encoded)
    return texts, Tokenised(kept, too_long, shortened)


def _encode(rows: list[Example], tokenizer, settings: Settings) -> list[Encoded]:
    """Prompt and SQL as ids; labels are the ids of the SQL and its EOS, and with TRAIN_ON_INPUTS of the prompt too."""
    layout = settings.prompt_layout
    prompts = encoding.encode_prompts(tokenizer, rows, layout)
    answers = encoding.encode_answers(tokenizer, [row["answer"] for row in rows], layout)
    rest = encoding.after_answer(tokenizer, layout)
    return [
        {
            "input_ids": start + answer + rest,
            "labels": (start if settings.TRAIN_ON_INPUTS else [IGNORED_LABEL] * len(start))
            + answer
            + [IGNORED_LABEL] * len(rest),
        }
        for start, answer in zip(prompts, answers, strict=True)
    ]
