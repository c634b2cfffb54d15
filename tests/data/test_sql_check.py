"""The data check: every fault is found, reported, dropped or repaired; its findings are kept, and made again when they
must be.
"""

import time

import pytest
from faulty_rows import FAULTS, TWICE, row

from sqlora.data import sql_check
from sqlora.settings.command_line import load_settings
from sqlora.system.errors import UserError
from sqlora.training import run_folder


@pytest.mark.parametrize(("given", "faults"), FAULTS, ids=[given["answer"][:40] for given, _ in FAULTS])
def test_every_fault_is_found(given, faults):
    (finding,) = sql_check.inspect_rows([given])
    assert finding.faults.keys() == set(faults)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (row("SELECT id FROM singer WHERE name = '\ud800'"), {"syntax error"}),
        (row("SELECT 1", 'CREATE TABLE t ("\ud800" TEXT)'), {"context cannot be read"}),
        (row("SELECT name FROM singer ORDER BY 9"), {"does not run"}),
        (row("SELECT name FROM singer WHERE id > 01 LIMIT 05"), set()),
    ],
)
def test_odd_text_ends_no_check(given, fault):
    (finding,) = sql_check.inspect_rows([given])
    assert set(finding.faults) == fault


def test_a_fault_of_the_check_itself_is_a_finding(monkeypatch):
    monkeypatch.setattr(sql_check, "_runs", lambda *arguments: 1 / 0)
    (finding,) = sql_check.inspect_rows([row("SELECT name FROM singer")])
    assert "ZeroDivisionError" in finding.faults["the check itself failed"]


def test_a_row_that_is_there_twice_is_found_the_second_time():
    rows = [row("SELECT 1"), row("SELECT  1 "), row("SELECT 1", question="Else?")]
    assert [finding.faults for finding in sql_check.inspect_rows(rows)] == [{}, {"duplicate row": "of row 1"}, {}]


def test_rows_that_repairs_make_the_same_are_one(tmp_path):
    rows = [row('SELECT id FROM singer WHERE name = "x"'), row("SELECT id FROM singer WHERE name = 'x'")]
    assert checked(rows, "fix", tmp_path).rows == rows[1:]


def checked(rows, mode, tmp_path):
    return sql_check.check_rows(rows, mode, tmp_path)


def test_what_each_mode_does(tmp_path):
    rows = [
        row("SELECT name FROM singer"),
        row("SELECT age FROM singer"),
        row('SELECT id FROM singer WHERE name = "it\'s"'),
        row("SELECT b FROM t", TWICE),
        row("SELECT DATE_TRUNC('month', year) FROM singer"),
    ]
    kept = {mode: checked(rows, mode, tmp_path) for mode in ("off", "warn", "drop", "fix")}
    assert kept["off"].rows == kept["warn"].rows == rows
    assert kept["off"].counts == {}
    assert (
        kept["warn"].counts
        == kept["drop"].counts
        == kept["fix"].counts
        == {"column not in the context": 1, "does not run": 1, "table created twice": 1, "string in double quotes": 1}
    )
    assert kept["drop"].rows == [rows[0], *rows[2:]]
    assert kept["drop"].dropped == {"column not in the context": 1}
    assert kept["fix"].rows == [
        rows[0],
        row("SELECT id FROM singer WHERE name = 'it''s'"),
        row("SELECT b FROM t", "CREATE TABLE t (a INTEGER, b INTEGER)"),
    ]
    assert str(kept["fix"]).startswith("2 rows dropped, 2 repaired; column not in the context: 1")


def test_a_check_that_would_leave_nothing_says_so(tmp_path):
    with pytest.raises(UserError, match="--check-data.*dropped every row"):
        checked([row("SELECT age FROM singer")], "drop", tmp_path)


def test_the_findings_are_kept_until_the_data_changes(tmp_path, monkeypatch):
    rows = [row("SELECT name FROM singer"), row("SELECT age FROM singer")]
    first = checked(rows, "drop", tmp_path)
    (cache,) = (tmp_path / ".lint").iterdir()
    looked = []
    inspect_rows = sql_check.inspect_rows
    monkeypatch.setattr(sql_check, "inspect_rows", lambda rows, _: looked.append(len(rows)) or inspect_rows(rows))
    assert checked(rows, "drop", tmp_path) == first
    assert looked == []
    checked(rows[::-1], "drop", tmp_path)
    assert looked == [2]
    cache.write_text("{half")
    assert checked(rows, "drop", tmp_path) == first
    assert looked == [2, 2]


def test_the_findings_are_made_again_when_the_rules_change(tmp_path, monkeypatch):
    rows = [row("SELECT name FROM singer")]
    checked(rows, "drop", tmp_path)
    rules = tmp_path / "quotes.py"
    rules.write_text("# another rule")
    monkeypatch.setattr(sql_check.double_quotes, "__file__", str(rules))
    checked(rows, "drop", tmp_path)
    assert len(list((tmp_path / ".lint").iterdir())) == 2


def test_the_findings_are_no_earlier_run_and_outlive_one(tmp_path):
    rows = [row("SELECT name FROM singer")]
    settings = load_settings(["--checkpoint-dir", str(tmp_path / "run"), "--model-path", str(tmp_path / "saved")], "")
    run_folder.check_outputs(settings)
    sql_check.check_rows(rows, "warn", settings.CHECKPOINT_DIR)
    run_folder.begin(settings.CHECKPOINT_DIR, settings.RESUME, settings.MAX_STEPS, {})
    aside = tmp_path / "run" / run_folder.EARLIER
    assert not aside.exists()
    (tmp_path / "run" / run_folder.METRICS).write_text("{}")
    run_folder.begin(settings.CHECKPOINT_DIR, settings.RESUME, settings.MAX_STEPS, {})
    assert [path.name for path in aside.glob("*/*")] == [run_folder.METRICS]
    assert list((tmp_path / "run" / ".lint").iterdir())


def test_thousands_of_rows_take_seconds_and_several_processes():
    rows = [row(f"SELECT name FROM singer WHERE id = {i}") for i in range(5_000)]
    start = time.monotonic()
    findings = sql_check.inspect_rows([*rows, row("SELECT age FROM singer")])
    assert [bool(finding.faults) for finding in findings] == [False] * 5000 + [True]
    assert time.monotonic() - start < 120  # one on an idle machine


def test_golds_of_another_dialect_are_read_in_it():
    golds = [
        "SELECT name FROM singer WHERE name ILIKE 'a%'",
        "SELECT nme FROM singer",
        "SELECT name::int FROM singer",
        "SELECT FROM WHERE",
    ]
    found = [finding.faults for finding in sql_check.inspect_rows([row(gold) for gold in golds], "postgres")]
    assert found[0] == found[2] == {}
    assert list(found[1]) == ["column not in the context"]
    assert list(found[3]) == ["syntax error"]
    unsaid = [
        "SELECT name FROM singer WHERE name @> 'a'",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM singer",
    ]
    kept = sql_check.inspect_rows([row(gold) for gold in unsaid], "postgres")
    assert [list(finding.faults) for finding in kept] == [[sql_check.UNSAID]] * 2
    assert all(finding.fatal("fix") is None for finding in kept)
    (quoted,) = sql_check.inspect_rows([row("SELECT name FROM singer WHERE name = `a`")], "mysql")
    assert quoted.answer is None
