"""The verdict journal: what was reached is kept, and belongs to one question."""

import json

import pytest
from concert import CONTEXT

from sqlora.evaluation.judge import judge_prediction
from sqlora.evaluation.verdict_journal import VerdictJournal, kept_beside
from sqlora.system.errors import UserError

GOLD = "SELECT name FROM singer WHERE age > 3"
VERDICTS = [
    judge_prediction(CONTEXT, GOLD, sql) for sql in (GOLD, "SELECT name FROM singer WHERE age >= 3", "SELECT", "\ud800")
]


def test_verdicts_come_back_as_they_were(tmp_path):
    out = tmp_path / "out.json"
    journal = VerdictJournal(out, ["rows"], resume=False)
    assert list(journal.keep(iter(VERDICTS[:3]))) == VERDICTS[:3]
    with kept_beside(out).open("a") as stream:
        stream.write('{"verdict": "ma')  # killed while it wrote
    again = VerdictJournal(out, ["rows"], resume=True)
    assert [verdict.as_dict() for verdict in again.reached] == [as_json(verdict) for verdict in VERDICTS[:3]]
    assert list(again.keep(iter(VERDICTS[3:]))) == VERDICTS[3:]
    assert len(VerdictJournal(out, ["rows"], resume=True).reached) == 4
    again.remove()
    assert not list(tmp_path.iterdir())


def as_json(verdict):
    """As JSON has it: lists for tuples."""
    fields = json.loads(json.dumps(verdict.as_dict()))
    return fields | {name: tuple(fields[name]) for name in ("kinds", "completed")}


def test_another_question_is_not_resumed(tmp_path):
    list(VerdictJournal(tmp_path / "out.json", ["rows"], resume=False).keep(iter(VERDICTS)))
    for name, asked in (("out.json", ["others"]), ("other.json", ["rows"])):
        with pytest.raises(UserError, match="start without --resume"):
            VerdictJournal(tmp_path / name, asked, resume=True)
