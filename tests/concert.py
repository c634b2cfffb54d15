"""A folder of two real databases, as people have them, for the tests of scoring."""

import sqlite3

CONTEXT = (
    "CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, country TEXT);\n"
    "CREATE TABLE song (id INTEGER PRIMARY KEY, singer INTEGER REFERENCES singer (id), title TEXT)"
)
ROWS = """INSERT INTO singer VALUES (1, 'Ann', 30, 'Peru'), (2, 'Bo', 40, 'Chile'), (3, 'Cy', 30, 'Peru');
INSERT INTO song VALUES (1, 1, 'One'), (2, 1, 'Two'), (3, 2, 'One')"""


def make_folder(folder):
    for name, rows in (("concert", ROWS), ("empty", "")):
        (folder / name).mkdir(parents=True)
        with sqlite3.connect(folder / name / f"{name}.sqlite") as connection:
            connection.executescript(f"{CONTEXT};{rows}")
        connection.close()
    return folder
