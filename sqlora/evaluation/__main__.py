"""`python -m sqlora.evaluation PREDICTIONS.jsonl [--rule RULE] [--json OUT]` scores predictions of any origin."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import cast

from rich.console import Console

from sqlora.data.row_files import SUFFIXES, check_record, is_file, read_records
from sqlora.evaluation.judge import PREDICTION_COLUMNS, failures, score
from sqlora.evaluation.metrics import card, compute_metrics
from sqlora.evaluation.rules import RULES, STRICT
from sqlora.storage import outputs
from sqlora.storage.atomic import replace_file
from sqlora.storage.paths import expand
from sqlora.system.errors import UserError, exit_on_user_error


def _read_predictions(path: Path) -> list[dict]:
    """The rows of the file. Raises UserError for a row without context, answer or prediction."""
    where = str(path)
    if not is_file(path, where):
        raise UserError(f"{where}: no such file; name a {', '.join(SUFFIXES)} file")
    records = read_records(path, PREDICTION_COLUMNS, where)
    for number, row in enumerate(records, start=1):
        record = check_record(row, PREDICTION_COLUMNS, f"{where}: row {number}")
        if not all(isinstance(record[key], str) for key in ("context", "answer")):
            raise UserError(f"{where}: row {number}: context and answer must be texts")
        if not isinstance(record["prediction"], str | None):
            raise UserError(f"{where}: row {number}: prediction must be a text, or null if there is none")
    if not records:
        raise UserError(f"{where}: there is no row in it")
    return cast(list[dict], records)


def main() -> None:
    """The command. Exits with 1 if some answers could not be scored, by a bug in SQLoRA."""
    parser = argparse.ArgumentParser(prog="python -m sqlora.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("predictions", metavar="PREDICTIONS.jsonl", help="rows of context, answer and prediction")
    parser.add_argument("--json", metavar="OUT", help="write the metrics and every row's verdict there")
    parser.add_argument(
        "--rule", choices=[rule.name for rule in RULES], default=STRICT.name, help="what counts as a match"
    )
    parser.add_argument("--keep-distinct", action="store_true", help="by the rule test-suite DISTINCT counts too")
    arguments = parser.parse_args()
    with exit_on_user_error():
        predictions = Path(expand(arguments.predictions, "PREDICTIONS.jsonl"))
        out = Path(expand(arguments.json, "--json")) if arguments.json else None
        if out:
            outputs.check_outputs_are_ours(
                {"PREDICTIONS.jsonl": predictions}, outputs.File("--json", out, outputs.VERDICTS)
            )
        rows = _read_predictions(predictions)
        verdicts = score(rows, rule=arguments.rule, keep_distinct=arguments.keep_distinct)
        counted = compute_metrics(verdicts)
        if out:
            report = {"metrics": counted, "rows": [verdict.as_dict() for verdict in verdicts]}
            text = json.dumps(report, ensure_ascii=False)
            replace_file(out, lambda partial: partial.write_text(text + "\n", encoding="utf-8", errors="replace"))
        Console().print(card({predictions.stem: counted}))
        if failed := failures(verdicts):
            sys.exit(f"error: {failed}")  # with status 1


if __name__ == "__main__":
    main()
