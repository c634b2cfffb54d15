"""Rows as token ids and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlora.data.dataset import Example
from sqlora.prompt import encoding
from sqlora.settings.settings import Settings
from sqlora.system.errors import UserError

IGNORED_LABEL = -100  # the target that torch's cross entropy leaves out


@dataclass(frozen=True)
class Tokenised:
    """Rows as the trainer takes them: dicts of `input_ids` and `labels`, two equally long lists; and the rows left
    out.
    """

    rows: list[dict[str, list[int]]]
    too_long: int


@dataclass(frozen=True)
class TokenisedSplits:
    """The training rows and the validation rows as token ids."""

    train: Tokenised
    validation: Tokenised

    def with_training(self, rows: Any) -> TokenisedSplits:
        """The same validation rows with other training rows, those of a stream."""
        return TokenisedSplits(Tokenised(rows, self.train.too_long), self.validation)


def tokenise_splits(train: list[Example], validation: list[Example], tokenizer, settings: Settings) -> TokenisedSplits:
    """Both splits as token ids, with n copies of a training row of weight n.

    Raises UserError if all rows of a split are too long.
    """
    weighted = [row for row in train for _ in range(row.get("weight", 1))]
    splits = TokenisedSplits(
        tokenise_rows(weighted, tokenizer, settings), tokenise_rows(validation, tokenizer, settings)
    )
    for name, split in (("training", splits.train), ("validation", splits.validation)):
        if not split.rows:
            raise UserError(
                f"every {name} row is longer than MAX_LENGTH (--max-length) {settings.MAX_LENGTH} tokens; raise it"
            )
    return splits


def tokenise_rows(rows: list[Example], tokenizer, settings: Settings) -> Tokenised:
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
                raise UserError(
                    f"MAX_LENGTH (--max-length) is {settings.MAX_LENGTH}, and a row has {len(ids)} tokens; raise it, "
                    f"or set LONG_ROWS to drop; the row asks {row['question']!r}"
                )
            too_long += 1
            continue
        labels = ids if settings.TRAIN_ON_INPUTS else [IGNORED_LABEL] * len(start) + answer
        kept.append({"input_ids": ids, "labels": labels})
    return Tokenised(kept, too_long)
