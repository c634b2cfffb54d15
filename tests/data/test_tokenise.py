"""Rows as token ids and labels."""

import pytest

from sqlora.data import tokenise
from sqlora.settings.command_line import load_settings
from sqlora.system.errors import UserError

ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i % 7} (a INTEGER)", "answer": f"SELECT {i}"}
    for i in range(20)
]


def settings(*flags):
    return load_settings(list(flags), "")


def test_the_loss_is_on_the_sql_and_its_eos_alone(llama_tokenizer):
    for flags, on_prompt in ((), False), (("--train-on-inputs",), True):
        for row, out in zip(ROWS, tokenise.tokenise_rows(ROWS, llama_tokenizer, settings(*flags)).rows, strict=True):
            ids, labels = out["input_ids"], out["labels"]
            targets = [token for token in labels if token != tokenise.IGNORED_LABEL]
            assert ids[-len(targets) :] == targets
            assert (len(targets) == len(ids)) == on_prompt
            if not on_prompt:
                assert targets[-1] == llama_tokenizer.eos_token_id
                assert llama_tokenizer.decode(targets[:-1]).strip() == row["answer"]


def test_long_rows_are_counted_or_refused_and_never_cut(llama_tokenizer):
    rows = [*ROWS, ROWS[0] | {"answer": "SELECT " + "x, " * 600 + "x"}]
    out = tokenise.tokenise_rows(rows, llama_tokenizer, settings())
    assert (len(out.rows), out.too_long) == (len(ROWS), 1)
    with pytest.raises(UserError, match="--max-length"):
        tokenise.tokenise_rows(rows, llama_tokenizer, settings("--long-rows", "raise"))


def test_no_row_short_enough(llama_tokenizer):
    with pytest.raises(UserError, match="every training row"):
        tokenise.tokenise_splits(ROWS, ROWS, llama_tokenizer, settings("--max-length", "8"))
