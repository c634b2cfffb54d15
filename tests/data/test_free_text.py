"""Question and schema told apart in the prompts of other sets."""

import pytest

from sqlora.data import free_text

ONE = "CREATE TABLE a (x INT, y TEXT DEFAULT 'CREATE TABLE b (;')"
TWO = "CREATE TABLE b (x INT REFERENCES a (x))"


@pytest.mark.parametrize(
    ("texts", "question", "context"),
    [
        ([f"{ONE};\n{TWO};\n\nHow many?"], "How many?", f"{ONE};\n{TWO}"),
        (
            [f"{ONE}\n\n{TWO}\n\n### Question:\nHow many\nare there?\n\n### SQL:"],
            "How many are there?",
            f"{ONE};\n{TWO}",
        ),
        ([f"How many?\n\nSchema:\n{ONE}"], "How many?", ONE),
        (["You write SQL.", f"Question: How many?\nSchema: {ONE}"], "How many?", ONE),
        ([f"Tables:\n```sql\n{ONE};\n```", "How many?"], "How many?", ONE),
        ([f"{ONE}; INSERT INTO a VALUES (1, ';'), (2, ')'); {TWO}; -- How many?"], "How many?", f"{ONE};\n{TWO}"),
        ([f"{ONE} WITHOUT ROWID;\nHow many?"], "How many?", f"{ONE} WITHOUT ROWID"),
        (["How many?"], "How many?", None),
        ([ONE], None, ONE),
        (["CREATE TABLE a (x INT"], None, "CREATE TABLE a (x INT"),
        ([""], None, None),
    ],
)
def test_question_and_schema(texts, question, context):
    found = free_text.question_and_schema(texts)
    assert (found.get("question"), found.get("context")) == (question, context)


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("```sql\nSELECT 1;\n```", "SELECT 1;"),
        ("Here:\n```\nSELECT 1\n```\nIt counts.", "SELECT 1"),
        (None, None),
        (7, None),
    ],
)
def test_a_fence_is_taken_off(text, sql):
    assert free_text.without_fence(text) == sql
