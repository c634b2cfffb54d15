"""Rows as token ids and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlora.data.dataset import Example
from sqlora.data.fitting import SchemaFitter, styled
from sqlora.prompt import encoding
from sqlora.settings.settings import Settings
from sqlora.system.errors import UserError

IGNORED_LABEL = -100  # the target that torch's cross entropy leaves out


@dataclass(frozen=True)
class Tokenised:
    """Rows as the trainer takes them: dicts of `input_ids` and `labels`, two equally long lists; and how many were left
    out, and how many have fewer tables than they had.
    """

    rows: list[dict[str, list[int]]]
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
    """Both splits as token ids, with n copies of a training row of weight n.

    Raises UserError if all rows of a split are too long.
    """
    weighted = [row for row in train for _ in range(row.get("weight", 1))]
    splits = TokenisedSplits(
        tokenise_rows(weighted, tokenizer, settings), tokenise_rows(validation, tokenizer, settings, keeps_gold=False)
    )
    for name, split in (("training", splits.train), ("validation", splits.validation)):
        if not split.rows:
            raise UserError(
                f"every {name} row is longer than MAX_LENGTH (--max-length) {settings.MAX_LENGTH} tokens; raise it"
            )
    return splits


def tokenise_rows(rows: list[Example], tokenizer, settings: Settings, keeps_gold: bool = True) -> Tokenised:
    """Prompt and SQL as ids; labels are the ids of the SQL and its EOS, and with TRAIN_ON_INPUTS of the prompt too.

    With LONG_ROWS "shorten" a row of more than MAX_LENGTH ids gets fewer tables: those of its SQL, if it `keeps_gold`,
    and the most relevant to its question. Others are counted and left out, or with "raise" raise UserError. None is
    cut: half a query teaches to write half queries.
    """
    order, most = settings.PROMPT_ORDER, settings.MAX_LENGTH
    rows = styled(rows, settings.SCHEMA_STYLE)
    prompts = encoding.encode_prompts(tokenizer, rows, order)
    answers = encoding.encode_answers(tokenizer, [row["answer"] for row in rows])
    fitter = SchemaFitter(tokenizer, order)
    kept, shortened, too_long = [], 0, 0
    for row, prompt, answer in zip(rows, prompts, answers, strict=True):
        start = prompt
        if len(start) + len(answer) > most:
            shortens = settings.LONG_ROWS == "shorten"
            fitted = fitter.fit(row, most - len(answer), keeps_gold) if shortens else None
            if fitted is None:
                if settings.LONG_ROWS == "raise":
                    raise UserError(
                        f"MAX_LENGTH (--max-length) is {most}, and a row has {len(start) + len(answer)} tokens; raise "
                        f"it, or set LONG_ROWS to drop; the row asks {row['question']!r}"
                    )
                too_long += 1
                continue
            shortened += 1
            (start,) = encoding.encode_prompts(tokenizer, [fitted], order)
        ids = start + answer
        labels = ids if settings.TRAIN_ON_INPUTS else [IGNORED_LABEL] * len(start) + answer
        kept.append({"input_ids": ids, "labels": labels})
    return Tokenised(kept, too_long, shortened)
