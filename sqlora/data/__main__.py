"""`python -m sqlora.data`: reports what is wrong with a dataset, and repairs what can be repaired."""

from __future__ import annotations

import itertools
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import click

import config
from sqlora.data import dataset
from sqlora.data.dataset import Example
from sqlora.data.layouts import INSERTS, PLAIN_CONTEXT
from sqlora.data.sql_check import (
    BROKEN,
    DROPPED,
    KEPT,
    TOO_LONG,
    Finding,
    apply_findings,
    inspect_rows,
)
from sqlora.evaluation import gold_quality
from sqlora.sql.dialects import dialect_option
from sqlora.storage import outputs
from sqlora.storage.paths import expand, option
from sqlora.system.console import console, plain, print_facts, progress_bar, quiet_libraries
from sqlora.system.errors import UserError, run_command
from sqlora.system.process_pool import spread

EXAMPLES = 3

columns_option = click.option(
    "--columns", default="", metavar="question=FIELD,...", help="fields of rows that are not known by themselves"
)
folder_option = click.option(
    "--database-folder",
    metavar="FOLDER",
    callback=option,
    help="databases that rows name by a db_id: db_id/*.sqlite, or a tables.json",
)


@click.command("python -m sqlora.data")
@click.argument("rows", metavar="FILE_OR_HUB_ID")
@click.option(
    "--fix",
    metavar="OUT.jsonl",
    callback=option,
    help="write the repaired rows there, and the others to a second file with reasons",
)
@dialect_option
@click.option(
    "--tokenizer",
    metavar="FOLDER",
    callback=option,
    help="count the rows that are longer than MAX_LENGTH of its tokens",
)
@columns_option
@folder_option
def command(
    rows: str, dialect: str, fix: Path | None, tokenizer: Path | None, columns: str, database_folder: Path | None
) -> None:
    """Runs every expected query of a dataset on the schema of its context, and reports what is wrong with which
    rows.

    python -m sqlora.data convert writes any data set as rows of question, context and answer; from-database makes rows
    about your own database.
    """
    rows = expand(rows, "FILE_OR_HUB_ID")
    if fix:
        _check_jsonl(fix, "--fix")
        inputs: dict[str, Path | str] = {"the input rows": rows}
        if tokenizer:
            inputs["--tokenizer"] = tokenizer
        outputs.check_outputs_are_ours(
            inputs,
            outputs.File("--fix", fix, outputs.TRAINING_ROWS),
            outputs.File("--fix's file of dropped rows", _rest(fix), outputs.DROPPED_ROWS),
        )
    examples = dataset.load_rows(rows, "FILE_OR_HUB_ID", reading=dataset.Reading(columns, database_folder))
    findings = _inspect_golds(examples, inspect_rows(examples, dialect), dialect)
    if tokenizer:
        findings = _find_long(examples, findings, tokenizer)
    _print_findings(examples, findings)
    if fix:
        checked = apply_findings(examples, findings, "fix")
        dataset.write_rows(fix, map(_as_written, checked.rows))
        reasons = ((row, finding.fatal("fix"), finding) for row, finding in zip(examples, findings, strict=True))
        dataset.write_rows(
            _rest(fix),
            [_as_written(row) | {"reason": reason, "why": f.faults[reason]} for row, reason, f in reasons if reason],
        )
        print_facts(
            {
                "written": f"{len(checked.rows):,} rows, {checked.repaired:,} of them repaired: {fix}",
                "dropped": f"{sum(checked.dropped.values()):,} rows, with a reason each: {_rest(fix)}",
            }
        )


@click.command("python -m sqlora.data convert")
@click.argument("rows", metavar="FILE_OR_HUB_ID")
@click.argument("out", metavar="OUT.jsonl")
@columns_option
@folder_option
def convert(rows: str, out: str, columns: str, database_folder: Path | None) -> None:
    """Writes the rows of a data set, in any layout that SQLoRA reads, as question, context and answer."""
    rows, path = expand(rows, "FILE_OR_HUB_ID"), Path(expand(out, "OUT.jsonl"))
    _check_jsonl(path, "OUT.jsonl")
    outputs.check_outputs_are_ours({"the input rows": rows}, outputs.File("OUT.jsonl", path, outputs.TRAINING_ROWS))
    reading = dataset.Reading(columns, database_folder)
    found = dataset.load_rows(rows, "FILE_OR_HUB_ID", ("question", "context"), reading)
    dataset.write_rows(path, map(_as_written, found))
    print_facts({"written": f"{len(found):,} rows: {path}"})


def _as_written(row: Example) -> Example:
    """The row as it is written, with one context."""
    return {name: value for name, value in row.items() if name not in (PLAIN_CONTEXT, INSERTS)}


def _check_jsonl(path: Path, name: str) -> None:
    if path.suffix != ".jsonl" or path.is_dir():
        raise UserError(f"{name} is {str(path)!r}; it must be a .jsonl file, such as fixed.jsonl")


def _rest(fix: Path) -> Path:
    return fix.with_suffix(".dropped.jsonl")


def main(arguments: list[str] | None = None) -> None:
    """The command; exits with 2 for errors that the user can fix."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["from-database"]:
        from sqlora.synthesis.command import from_database

        run_command(from_database, arguments[1:])
        return
    converts = arguments[:1] == ["convert"]
    run_command(convert if converts else command, arguments[converts:])


def _inspect_golds(rows: list[Example], findings: list[Finding], dialect: str) -> list[Finding]:
    """The findings with those on golds that run but are not fit to score answers."""
    keys = [(row["context"], row["answer"], row["question"], dialect) for row in rows]
    broken = set(BROKEN.values())
    fit = (key for key, finding in zip(keys, findings, strict=True) if not finding.faults.keys() & broken)
    calls = list(dict.fromkeys(fit))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    with progress_bar("rows") as bar:
        task = bar.add_task("checking the golds", total=len(calls))
        for call, faults in zip(calls, spread(gold_quality.inspect_gold, calls, lost={}), strict=True):
            found[call] = faults
            bar.advance(task)
    return [
        replace(finding, faults=finding.faults | found.get(key, {}))
        for key, finding in zip(keys, findings, strict=True)
    ]


def _find_long(rows: list[Example], findings: list[Finding], folder: Path) -> list[Finding]:
    if not folder.is_dir():
        raise UserError(
            f"--tokenizer is {str(folder)!r}, and there is no such folder; name the folder of a model or a tokenizer"
        )
    quiet_libraries()
    from sqlora.model import base_models, loading
    from sqlora.prompt import encoding  # imports torch

    tokenizer = loading.load_tokenizer(base_models.BaseModel(folder, str(folder), None, ""))
    prompts = encoding.encode_prompts(tokenizer, rows)
    answers = encoding.encode_answers(tokenizer, [row["answer"] for row in rows])
    lengths = [len(start) + len(end) for start, end in zip(prompts, answers, strict=True)]
    return [
        replace(finding, faults=finding.faults | {TOO_LONG: f"{length} tokens"})
        if length > config.MAX_LENGTH
        else finding
        for finding, length in zip(findings, lengths, strict=True)
    ]


def _print_findings(rows: list[Example], findings: list[Finding]) -> None:
    from rich.table import Table

    table = Table("finding", "rows", "share", "with --fix", "examples", show_lines=True)
    for name, count in apply_findings(rows, findings, "warn").counts.items():
        fate = "dropped" if name in DROPPED["fix"] else "kept" if name in KEPT else "repaired"
        numbered = (
            (n, row, f) for n, (row, f) in enumerate(zip(rows, findings, strict=True), start=1) if name in f.faults
        )
        examples = [
            f"row {n}: {textwrap.shorten(row['answer'], 160)}" + (f" ({f.faults[name]})" if f.faults[name] else "")
            for n, row, f in itertools.islice(numbered, EXAMPLES)
        ]
        table.add_row(name, f"{count:,}", f"{count / len(rows):.1%}", fate, plain("\n".join(examples)))
    if table.rows:
        console.print(table)
    clean = sum(not finding.faults for finding in findings)
    print_facts({"rows": f"{len(rows):,}, of which {clean:,} ({clean / len(rows):.1%}) have no finding"})


if __name__ == "__main__":
    main()
