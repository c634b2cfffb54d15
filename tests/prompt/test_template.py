"""The prompt's text, its hash, and the SQL in an answer."""

import pytest

from sqlora.data.tokenise import tokenise_rows
from sqlora.prompt import encoding, template


def test_the_prompt_holds_each_part_once_in_order():
    text = template.build_prompt(" How {many}? ", "\nCREATE TABLE t (a INTEGER)\n")
    parts = [template.INSTRUCTION, "\n\n### Input:\nHow {many}?\n", "\n### Context:\nCREATE TABLE t (a INTEGER)\n"]
    assert text == "".join(parts) + "\n### Response:\n"


@pytest.mark.parametrize("order", template.TEMPLATES)
def test_a_hint_follows_its_question(order):
    plain, hinted = (
        template.build_prompt("How many?", "CREATE TABLE t (a INT)", order, hint) for hint in ("", " a > 1 ")
    )
    assert hinted == plain.replace("How many?", "How many?\n\n### Hint:\na > 1")
    assert plain == template.build_prompt("How many?", "CREATE TABLE t (a INT)", order)


def test_the_hash_changes_with_the_prompt(monkeypatch):
    before = template.prompt_hash("question_first")
    assert (len(before), before) == (16, template.prompt_hash("question_first"))
    assert template.prompt_hash("schema_first") != before
    monkeypatch.setattr(template, "INSTRUCTION", template.INSTRUCTION + " ")
    assert template.prompt_hash("question_first") != before


def test_schema_first_puts_the_context_before_the_question(llama_tokenizer, make_settings):
    text = template.build_prompt(" How many? ", "CREATE TABLE t (a INTEGER)", "schema_first")
    parts = [template.INSTRUCTION, "\n\n### Context:\nCREATE TABLE t (a INTEGER)\n", "\n### Input:\nHow many?\n"]
    assert text == "".join(parts) + "\n### Response:\n"
    row = {"question": "How many?", "context": "CREATE TABLE t (a INTEGER)", "answer": "SELECT 1"}
    first, second = (
        tokenise_rows([row], llama_tokenizer, make_settings("--prompt-order", order)).rows[0]["input_ids"]
        for order in template.MESSAGES
    )
    assert first != second
    asked = encoding.encode_prompts(llama_tokenizer, [row], "schema_first")[0]
    assert second[: len(asked)] == asked


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ;\nSELECT 2;", "SELECT 1"),
        ("", ""),
        (" \n ", ""),
        (";", ""),
        ("SELECT ';' FROM t; DROP TABLE t", "SELECT ';' FROM t"),
        ('SELECT ";" FROM `a;b`; x', 'SELECT ";" FROM `a;b`'),
        ("SELECT 'it''s; fine' FROM t; x", "SELECT 'it''s; fine' FROM t"),
        ("SELECT '\";' FROM t; x", "SELECT '\";' FROM t"),
        ("SELECT 1 -- one; two\nFROM t; x", "SELECT 1 -- one; two\nFROM t"),
        ("SELECT 1 -- it's\nFROM t; x", "SELECT 1 -- it's\nFROM t"),
        ("SELECT 1 -- the end; really", "SELECT 1 -- the end; really"),
        ("SELECT '--' FROM t; x", "SELECT '--' FROM t"),
        ("SELECT 1 /* a; b */ FROM t; x", "SELECT 1 /* a; b */ FROM t"),
        ("SELECT 1 /* it's */ FROM t; x", "SELECT 1 /* it's */ FROM t"),
        ("SELECT 'a /* b' FROM t; x", "SELECT 'a /* b' FROM t"),
        ("```sql\nSELECT 1;\n```\nThis counts.", "SELECT 1"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("```SQL\nSELECT 1\n```", "SELECT 1"),
        ("```SELECT 1```", "SELECT 1"),
        ("SELECT 1\n```", "SELECT 1"),
        ("SELECT 1\n```\nThis counts.", "SELECT 1"),
        ("Here is the query:\n```sql\nSELECT 1;\n```", "SELECT 1"),
        ("SELECT 1\n\n### Input:\nWhat else?", "SELECT 1"),
        ("SELECT 1 FROM t WHERE a = '### b'", "SELECT 1 FROM t WHERE a = '### b'"),
        ("SELECT 'never closed; x", "SELECT 'never closed; x"),
    ],
)
def test_extract_sql(text, sql):
    assert template.extract_sql(text) == sql
