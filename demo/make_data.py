"""Writes the demo's rows: questions about made-up databases, and the SQL that answers them.

python demo/make_data.py                       demo/train.jsonl, test.jsonl and test_seen.jsonl again, byte for byte
python demo/make_data.py --dev dev.jsonl       rows over the domains that are kept for decisions
python demo/make_data.py --show 5              a few rows to look at
"""

import argparse
import json
import random
from pathlib import Path

from questions import Asker
from schemas import context, domain_tables, sample_schema

HERE = Path(__file__).resolve().parent
TRAIN_ROWS, TEST_ROWS, SEED = 2400, 200, 20


def make_row(rng, split: str) -> dict:
    """One row over a domain of the split."""
    schema = sample_schema(rng, domain_tables(rng, split))
    question, answer = Asker(rng, schema).ask()
    return {"question": question, "context": context(schema), "answer": answer}


def make_rows(count: int, split: str, seed: str, but=()) -> list[dict]:
    """`count` rows with different questions, none over a context or with a question of the rows `but`."""
    rng = random.Random(seed)
    questions, contexts = {r["question"] for r in but}, {r["context"] for r in but}
    rows = []
    while len(rows) < count:
        row = make_row(rng, split)
        if row["question"] not in questions and row["context"] not in contexts:
            questions.add(row["question"])
            rows.append(row)
    return rows


def make_files(seed: int = SEED) -> dict[str, list[dict]]:
    """The rows of the three files of the demo."""
    train = make_rows(TRAIN_ROWS, "seen", f"train {seed}")
    return {
        "train.jsonl": train,
        "test.jsonl": make_rows(TEST_ROWS, "test", f"test {seed}"),
        "test_seen.jsonl": make_rows(TEST_ROWS, "seen", f"test seen {seed}", but=train),
    }


def write_rows(path: Path, rows: list[dict]) -> None:
    """One JSON object a line, in UTF-8 and with Unix line ends on every system."""
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the three files (default: this one)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default {SEED}, that of the files of the repository")
    parser.add_argument("--dev", type=Path, help="write rows over the DEV domains to this file, and nothing else")
    parser.add_argument("--show", type=int, default=0, help="print that many rows, and write nothing")
    args = parser.parse_args()
    if args.show:
        for row in make_rows(args.show, "seen", f"show {args.seed}"):
            print(f"{row['question']}\n{row['context']}\n{row['answer']}\n")
    elif args.dev:
        write_rows(args.dev, make_rows(TEST_ROWS, "dev", f"dev {args.seed}"))
    else:
        for name, rows in make_files(args.seed).items():
            write_rows(args.out / name, rows)


if __name__ == "__main__":
    main()
