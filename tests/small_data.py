"""Small data that several tests share: rows, answers, tokenised rows."""

import csv
import json

from sqlora.data import tokenise

ROWS = [
    {"question": f"How many {i}?", "context": f"CREATE TABLE t{i % 7} (a INTEGER)", "answer": f"SELECT {i}"}
    for i in range(20)
]

ANSWERS = [
    {
        "question": "How many?",
        "context": "CREATE TABLE t (a INT)",
        "answer": "SELECT COUNT(*) FROM t",
        "base": "How many? is",
        "adapter": "select count(*) from t",
    },
    {
        "question": "Which a?",
        "context": "CREATE TABLE t (a INT)",
        "answer": "SELECT a FROM t",
        "base": "SELECT a FROM t",
        "adapter": "SELECT b FROM t",
    },
]


SIZES = {  # of a small Llama
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FEW_ROWS = [  # tokenised, with shared prefixes
    {"input_ids": [1, 7, 8, 9, 2], "labels": [-100, -100, -100, 9, 2]},
    {"input_ids": [1, 7, 8, 10, 11, 2], "labels": [-100, -100, -100, 10, 11, 2]},
    {"input_ids": [1, 7, 2], "labels": [-100, 7, 2]},
]


def tokenised(tokenizer, settings, count=12):
    """A dozen rows of three SQL forms, tokenised, of which the last four are for validation."""
    rows = [
        {
            "question": "How many rows " + "are there " * (i % 5) + "?",
            "context": f"CREATE TABLE t{i} (a INTEGER)",
            "answer": f"SELECT COUNT(*) FROM t{i}" + " WHERE a > 1" * (i % 3),
        }
        for i in range(count)
    ]
    return tokenise.tokenise_splits(rows[: count - 4], rows[count - 4 :], tokenizer, settings)


def write(path, rows=ROWS):
    """Writes the rows as the path's suffix says; the path."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path
