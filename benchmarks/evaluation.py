"""How often the score is right: one-edit wrong mutants that it exposes, rewrites of the same meaning that it accepts.

    python benchmarks/evaluation.py --rows ROWS.jsonl [--number 800] [--seed 0] [--show]
    python benchmarks/evaluation.py --rows PAIRS.jsonl --label official [--keep-distinct] [--database-folder FOLDER]

ROWS.jsonl has a context and an answer in each line. The same pairs are scored by three other rules, on the same
databases but for the first: equal on empty tables; equal sets of rows (BIRD's); equal once duplicate rows are dropped
and columns sorted by name (defog's). --show prints the pairs on which SQLoRA's own rule errs.

With --label the rows have a prediction and a column that says whether it is right, by another evaluator or a person:
how often does each rule of sqlora/evaluation/rules.py agree? With --database-folder the published rules judge on the
real databases there, as their evaluators do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.edits import MUTANTS, REWRITES
from sqlora.evaluation import rules
from sqlora.evaluation.judge import Scoring, complete_schema, judge_prediction
from sqlora.evaluation.metrics import wilson
from sqlora.evaluation.pairs import DATABASES
from sqlora.evaluation.synthetic_databases import Synthesiser
from sqlora.sql.parsing import SqlError, parse_query, parse_schema, to_sqlite
from sqlora.sql.sandbox import Database, QueryResult

RULES = ("SQLoRA", "empty tables", "BIRD", "defog")


def same_on_empty(gold: QueryResult, other: QueryResult, is_ordered: bool) -> bool:
    return gold.rows == other.rows


def same_set(gold: QueryResult, other: QueryResult, is_ordered: bool) -> bool:
    return set(gold.rows) == set(other.rows)


def same_table(gold: QueryResult, other: QueryResult, is_ordered: bool) -> bool:
    tables = []
    for result in (gold, other):
        order = sorted(range(len(result.columns)), key=lambda i: result.columns[i])
        rows = [tuple(row[i] for i in order) for row in dict.fromkeys(result.rows)]
        tables.append(
            rows if is_ordered else sorted(rows, key=lambda row: [(type(value).__name__, value) for value in row])
        )
    return tables[0] == tables[1]


def accepted(context: str, gold: str, other: str) -> dict[str, bool] | None:
    """By rule, whether it takes the two for the same; None if the gold is unscorable."""
    verdict = judge_prediction(context, gold, other)
    if verdict.verdict == "unscorable":
        return None
    schema = parse_schema(context)
    schema = complete_schema(schema, parse_query(gold, schema))
    found = {"SQLoRA": verdict.verdict == "match"}
    try:
        queries = [parse_query(gold, schema), parse_query(other, schema)]
        texts = [to_sqlite(query) for query in queries]
        is_ordered = queries[0].args.get("order") is not None
        synthesiser = Synthesiser(schema, queries, f"{context}\n{gold}")
        databases = list(itertools.islice(synthesiser, DATABASES))
        for name, rule, filled in (
            ("empty tables", same_on_empty, [{}]),
            ("BIRD", same_set, databases),
            ("defog", same_table, databases),
        ):
            found[name] = True
            for rows in filled:
                with Database(synthesiser.schema, rows) as database:
                    found[name] = found[name] and rule(*(database.run(text) for text in texts), is_ordered)
    except SqlError:
        return found | {name: False for name in RULES if name not in found}
    return found


def try_row(row: dict[str, str], seed: int) -> list[tuple[str, str, str, str, dict[str, bool]]]:
    """(sort, edit, gold, edited, by rule whether it accepts), one for each edit that fits the row."""
    try:
        schema = parse_schema(row["context"])
        gold = parse_query(row["answer"], schema)
        text = to_sqlite(gold)
    except SqlError:
        return []
    tried = []
    for sort, edits in (("mutant", MUTANTS), ("rewrite", REWRITES)):
        for name, edit in edits.items():
            edited = edit(gold.copy(), schema, random.Random(f"{seed} {name} {text}"))
            if edited is None or to_sqlite(edited) == text:
                continue
            other = edited.sql(dialect="sqlite")
            if (found := accepted(row["context"], row["answer"], other)) is not None:
                tried.append((sort, name, row["answer"], other, found))
    return tried


def print_table(tried: list, sort: str, edits: dict, right: bool) -> None:
    counts: dict[str, Counter] = defaultdict(Counter)
    for found_sort, name, _, _, found in tried:
        if found_sort == sort:
            for key in (name, "all"):
                counts[key]["n"] += 1
                counts[key].update(rule for rule in RULES if found[rule] == right)
    print(
        f"\n| {sort}s, % {'accepted' if right else 'exposed'} | n | {' | '.join(RULES)} "
        f"|\n|---|---|{'---|' * len(RULES)}"
    )
    for name in (*edits, "all"):
        if count := counts[name]:
            shares = " | ".join(f"{100 * count[rule] / count['n']:.1f}" for rule in RULES)
            print(f"| {name} | {count['n']:,} | {shares} |")
    low, high = wilson(counts["all"]["SQLoRA"], counts["all"]["n"])
    print(f"\n95 % interval of SQLoRA's share: {100 * low:.2f} to {100 * high:.2f}")


def print_agreement(rows: list[dict], label: str, scoring: Scoring) -> None:
    """How often each rule decides as the rows' `label`, true or false, does; rows without one are left out."""
    rows = [row for row in rows if isinstance(row.get(label), bool | int | float)]
    start = time.process_time()
    calls = [(row["context"], row["answer"], row["prediction"], scoring, row.get("db_id", "")) for row in rows]
    verdicts = list(itertools.starmap(judge_prediction, calls))
    seconds = time.process_time() - start
    print(f"{len(rows):,} pairs, {1000 * seconds / len(rows):.1f} CPU-seconds for 1,000")
    strict = [verdict.by_rule("strict") for verdict in verdicts]
    unproven = [bool(verdict.unproven) for verdict in strict if verdict.verdict == "match"]
    print(f"{len(unproven):,} matches by the rule strict, {sum(unproven):,} of them unproven")
    print(f"\n| rule | agrees with {label}, % | accepts what it refuses, % | balanced accuracy, % |\n|---|---|---|---|")
    for rule in rules.RULES:
        accepts = [verdict.under(rule.name) == "match" for verdict in verdicts]
        pairs = Counter((accepted, bool(row[label])) for accepted, row in zip(accepts, rows, strict=True))
        agreed = (pairs[True, True] + pairs[False, False]) / len(rows)
        right, wrong = (pairs[one, one] / max(1, pairs[True, one] + pairs[False, one]) for one in (True, False))
        shares = (agreed, pairs[True, False] / len(rows), (right + wrong) / 2)
        print(f"| {rule.name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--number", type=int, default=800, help="rows drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", help="a column that says whether each row's prediction is right")
    parser.add_argument("--keep-distinct", action="store_true", help="as in python -m sqlora.evaluation")
    parser.add_argument("--database-folder", type=Path, help="as in python -m sqlora.evaluation")
    parser.add_argument("--show", action="store_true", help="print the pairs on which SQLoRA errs")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.rows.read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = random.Random(arguments.seed).sample(rows, min(arguments.number, len(rows)))
    if arguments.label:
        scoring = Scoring(keep_distinct=arguments.keep_distinct, folder=arguments.database_folder)
        print_agreement(rows, arguments.label, scoring)
        return
    start = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        tried = [
            one for found in pool.map(try_row, rows, itertools.repeat(arguments.seed), chunksize=8) for one in found
        ]
    print(f"{len(rows)} rows, {len(tried):,} pairs, {time.perf_counter() - start:.0f} s")
    print_table(tried, "mutant", MUTANTS, right=False)
    print_table(tried, "rewrite", REWRITES, right=True)
    for sort, name, gold, other, found in tried if arguments.show else ():
        if found["SQLoRA"] != (sort == "rewrite"):
            print(f"\n{sort}, {name}\n  {gold}\n  {other}")


if __name__ == "__main__":
    main()
