"""Rows with each fault that the data check knows, and its findings."""

CONTEXT = "CREATE TABLE singer (id INTEGER, name VARCHAR, year VARCHAR)"
TWICE = "CREATE TABLE t (a INT); CREATE TABLE t (b INT)"


def row(answer, context=CONTEXT, question="Who?"):
    return {"question": question, "context": context, "answer": answer}


FAULTS = [
    (row("SELECT name FROM singer"), {}),
    (row("SELECT name FROM singer WHERE name = 'x' LIMIT 3"), {}),
    (row("SELECT 1", "no schema at all"), {"context cannot be read"}),
    (row("SELECT name FROM song"), {"table not in the context"}),
    (row("SELECT age FROM singer"), {"column not in the context"}),
    (row('SELECT "age" FROM singer'), {"column not in the context"}),
    (row("SELECT T1.age FROM singer AS T1"), {"column not in the context"}),
    (row("SELECT a.name FROM singer a JOIN singer b ON id = id"), {"ambiguous column"}),
    (row("SELECT name FROM"), {"syntax error"}),
    (row("DELETE FROM singer"), {"not one SELECT"}),
    (row("SELECT 1; SELECT 2"), {"not one SELECT"}),
    (row("SELECT DATE_TRUNC('month', year) FROM singer"), {"does not run"}),
    (row("SELECT a, b FROM t", TWICE), {"table created twice"}),
    (row('SELECT name FROM singer WHERE name = "O\'Hara"'), {"string in double quotes"}),
    (row("SELECT name FROM singer WHERE year > 2000"), {"text compared with number"}),
    (row("SELECT name FROM singer WHERE 2000 < year"), {"text compared with number"}),
    (
        row('SELECT name FROM singer WHERE year > 2000 AND name = "x"'),
        {"text compared with number", "string in double quotes"},
    ),
]
