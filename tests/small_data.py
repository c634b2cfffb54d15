"""A dozen rows of three SQL forms, tokenised, of which the last four are for validation."""

from sqlora.data import tokenise


def tokenised(tokenizer, settings, count=12):
    rows = [
        {
            "question": "How many rows " + "are there " * (i % 5) + "?",
            "context": f"CREATE TABLE t{i} (a INTEGER)",
            "answer": f"SELECT COUNT(*) FROM t{i}" + " WHERE a > 1" * (i % 3),
        }
        for i in range(count)
    ]
    return tokenise.tokenise_splits(rows[: count - 4], rows[count - 4 :], tokenizer, settings)
