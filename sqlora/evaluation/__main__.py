"""`python -m sqlora.evaluation PREDICTIONS` scores predictions of any origin."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from sqlora.evaluation import prediction_files, write_databases
from sqlora.evaluation.judge import Scoring, failures, verdicts
from sqlora.evaluation.metrics import Verdict, card, compare_scores, compute_metrics, format_comparison
from sqlora.evaluation.rules import RULES, STRICT, rule_of
from sqlora.evaluation.verdict_journal import VerdictJournal, kept_beside
from sqlora.sql.dialects import dialect_option
from sqlora.storage import outputs
from sqlora.storage.atomic import replace_file
from sqlora.storage.paths import expand, option
from sqlora.system.console import console, print_facts, progress_bar, resume_hint
from sqlora.system.errors import Interrupted, UserError, run_command

ABOUT = """Score predictions: are they right, and if not, on which rows does one see it?

\b
python -m sqlora.evaluation answers.jsonl --json verdicts.json     rows of context, answer and prediction
python -m sqlora.evaluation A.jsonl B.jsonl                        two models' answers to the same questions
python -m sqlora.evaluation pred.sql --gold dev_gold.sql --database-folder database    files of Spider
python -m sqlora.evaluation predict_dev.json --gold dev.json --database-folder dev_databases --rule bird

PREDICTIONS is a .jsonl, .json, .csv or .parquet file of rows, a .sql or .txt file with a query in each line, or BIRD's
.json file of numbered queries.
"""


@dataclass(frozen=True)
class Scored:
    """A file of predictions with its rows and their verdicts."""

    name: str
    rows: list[dict]
    verdicts: list[Verdict]


def _layout(
    context: click.Context, parameter: click.Parameter, value: tuple[str, str] | None
) -> tuple[str, Path] | None:
    """The layout of predictions, and the path to write. Raises UserError for a layout that is not known."""
    if value is None:
        return None
    layout, path = value
    if layout not in prediction_files.LAYOUTS:
        known = " or ".join(prediction_files.LAYOUTS)
        raise UserError(f"--write-predictions: {layout!r} is no layout; it is {known}")
    return layout, Path(expand(path, "--write-predictions"))


@click.command("python -m sqlora.evaluation", help=ABOUT)
@click.argument("predictions", nargs=-1, required=True, metavar="PREDICTIONS [PREDICTIONS]")
@click.option(
    "--gold", metavar="FILE", callback=option, help="golds of files without them: SQL<TAB>db_id lines, or a dev.json"
)
@click.option(
    "--database-folder", metavar="FOLDER", callback=option, help="real databases, db_id/*.sqlite, to score on too"
)
@click.option(
    "--rule", type=click.Choice([rule.name for rule in RULES]), default=STRICT.name, help="what counts as a match"
)
@click.option("--keep-distinct", is_flag=True, help="by the rule test-suite DISTINCT counts too")
@dialect_option
@click.option("--json", "out", metavar="OUT", callback=option, help="write the metrics and every row's verdict there")
@click.option("--resume", is_flag=True, help="with --json: go on where an interrupted scoring stopped")
@click.option(
    "--write-predictions",
    "written",
    nargs=2,
    metavar="LAYOUT OUT",
    callback=_layout,
    help="spider or bird: write them so, and stop",
)
@click.option(
    "--write-databases", "databases", metavar="FOLDER", callback=option, help="write synthetic databases, and stop"
)
def command(
    predictions: tuple[str, ...],
    gold: Path | None,
    database_folder: Path | None,
    rule: str,
    keep_distinct: bool,
    dialect: str,
    out: Path | None,
    resume: bool,
    written: tuple[str, Path] | None,
    databases: Path | None,
) -> None:
    paths = [Path(expand(path, "PREDICTIONS")) for path in predictions]
    inputs = {f"PREDICTIONS {path}": path for path in paths}
    if gold:
        inputs["--gold"] = gold
    if database_folder:
        inputs["--database-folder"] = database_folder
    scoring = Scoring(rule, keep_distinct, database_folder, dialect)
    if len(paths) > 2:
        raise UserError(f"{len(paths)} files of predictions are named; one is scored, or two are compared")
    if resume and not out:
        raise UserError("--resume needs --json, beside whose file the verdicts of an interrupted scoring are kept")
    outputs.check_outputs_are_ours(inputs, *_targets(out, written, databases))
    read = [prediction_files.read_predictions(path, gold, database_folder) for path in paths]
    if len(read) == 2 and [_asked(row) for row in read[0]] != [_asked(row) for row in read[1]]:
        raise UserError(f"{paths[0]} and {paths[1]} have not the same contexts and golds in the same order")
    if written:
        layout, path = written
        replace_file(path, lambda partial: _write_predictions(read[0], layout, partial))
    elif databases:
        count = write_databases.write(read[0], databases, rule_of(rule))
        print_facts({"databases": f"{count:,} in {databases}, with their golds in {write_databases.GOLDS}"})
    else:
        _score(paths, read, scoring, out, resume)


def _targets(
    out: Path | None, written: tuple[str, Path] | None, databases: Path | None
) -> list[outputs.File | outputs.Folder]:
    """What will be written."""
    targets: list[outputs.File | outputs.Folder] = []
    if out:
        targets.append(outputs.File("--json", out, outputs.VERDICTS))
        targets.append(outputs.File("--json's verdicts so far", kept_beside(out), outputs.KEPT_VERDICTS))
    if written:
        layout, path = written
        kind = outputs.SQL_LINES if layout == "spider" else outputs.BIRD_PREDICTIONS
        targets.append(outputs.File("--write-predictions", path, kind))
    if databases:
        targets.append(outputs.Folder("--write-databases", databases, new=True))
    return targets


def _write_predictions(rows: list[dict], layout: str, partial: Path) -> None:
    with partial.open("w", encoding="utf-8", errors="replace") as stream:
        prediction_files.write_predictions(rows, layout, stream)


def _asked(row: dict) -> tuple[str, str]:
    return row["context"], row["answer"]


def _score(paths: list[Path], read: list[list[dict]], scoring: Scoring, out: Path | None, resume: bool) -> None:
    """Scores each file, writes and prints. Exits with 1 if some answers could not be scored, by a bug in SQLoRA."""
    rows = [row for of_file in read for row in of_file]
    asked = [[row["context"], row["answer"], row["prediction"], row.get("db_id")] for row in rows]
    journal = VerdictJournal(out, [asked, str(scoring)], resume) if out else None
    found = list(journal.reached) if journal else []
    reached = verdicts(rows[len(found) :], scoring=scoring)
    try:
        with progress_bar("rows") as bar:
            task = bar.add_task("scoring", total=len(rows), completed=len(found))
            for verdict in journal.keep(reached) if journal else reached:
                found.append(verdict)
                bar.advance(task)
    except KeyboardInterrupt as error:
        hint = (
            resume_hint(f"after {len(found):,} verdicts") if journal else f"interrupted after {len(found):,} verdicts"
        )
        raise Interrupted(getattr(error, "number", 2), hint) from error
    start = 0
    scored: list[Scored] = []
    for path, of_file in zip(paths, read, strict=True):
        scored.append(Scored(path.stem, of_file, found[start : start + len(of_file)]))
        start += len(of_file)
    if out and journal:
        text = json.dumps(_report(scored), ensure_ascii=False)
        replace_file(out, lambda partial: partial.write_text(text + "\n", encoding="utf-8", errors="replace"))
        journal.remove()
    console.print(card({name: compute_metrics(one.verdicts) for name, one in _named(scored).items()}))
    if len(scored) == 2:
        comparison = compare_scores(*(one.verdicts for one in scored))
        print_facts({f"{scored[1].name} against {scored[0].name}": format_comparison(comparison)})
    if failed := failures(found):
        sys.exit(f"error: {failed}")  # with status 1


def _named(scored: list[Scored]) -> dict[str, Scored]:
    """By the files' names, told apart if they are alike."""
    names = [one.name for one in scored]
    return {
        name if names.count(name) == 1 else f"{name} {i}": one
        for i, (name, one) in enumerate(zip(names, scored, strict=True), 1)
    }


def _report(scored: list[Scored]) -> dict:
    if len(scored) == 1:
        (one,) = scored
        return {"metrics": compute_metrics(one.verdicts), "rows": [verdict.as_dict() for verdict in one.verdicts]}
    first, second = scored
    return {
        "metrics": {name: compute_metrics(one.verdicts) for name, one in _named(scored).items()},
        "comparison": compare_scores(first.verdicts, second.verdicts),
        "rows": [[one.as_dict(), other.as_dict()] for one, other in zip(first.verdicts, second.verdicts, strict=True)],
    }


def main() -> None:
    """The command."""
    run_command(command, None)


if __name__ == "__main__":
    main()
