"""A small database of films for the tests of sqlora/synthesis: keys, a table that only links two, categories, measures,
a year, dates, a flag, values that look like code.
"""

import random
import sqlite3

TABLES = """
CREATE TABLE director (Director_ID INTEGER PRIMARY KEY, Name TEXT, Age INTEGER, Nationality TEXT);
CREATE TABLE Film (
    FilmID INTEGER PRIMARY KEY, Title TEXT, Year INTEGER, Gross REAL, Genre TEXT, is_open TEXT, Release_Date DATE,
    Director_ID INTEGER REFERENCES director (Director_ID)
);
CREATE TABLE actor (ActorID INTEGER PRIMARY KEY, Name TEXT, Age INTEGER, Country TEXT, BestFilm INTEGER
    REFERENCES Film (FilmID));
CREATE TABLE film_cast (FilmID INTEGER REFERENCES Film (FilmID), ActorID INTEGER REFERENCES actor (ActorID),
    PRIMARY KEY (FilmID, ActorID));
"""
FIRST = "Ada Bo Cy Dee Eva Flo Gus Hal Ida Jo Kit Lea Max Ned Ola Pia".split()
COUNTRIES = ("Peru", "Chile", "New Zealand")
MARKUP = "<b>; DROP TABLE film -- [red]"


def rows():
    """The rows of each table, the same each time."""
    draw = random.Random(0)
    directors = [(i, name, draw.randint(30, 70), draw.choice(COUNTRIES)) for i, name in enumerate(FIRST[:8], start=1)]
    films = [
        (
            i,
            f"{draw.choice(('Red', 'Blue', 'Old'))} {draw.choice(FIRST)} {i}",
            draw.randint(1990, 2020),
            round(draw.uniform(1, 90), 1),
            draw.choice(("Drama", "Comedy", MARKUP)),
            draw.choice("YN"),
            f"20{draw.randint(10, 20)}-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}",
            draw.randint(1, 6),
        )
        for i in range(1, 31)
    ]
    actors = [
        (i, name, draw.randint(18, 80), draw.choice(COUNTRIES), draw.randint(1, 30))
        for i, name in enumerate(FIRST, start=1)
    ]
    cast = sorted({(draw.randint(1, 30), draw.randint(1, 12)) for _ in range(50)})
    return {"director": directors, "Film": films, "actor": actors, "film_cast": cast}


def make_file(folder, filled=True):
    """The database as an SQLite file."""
    file = folder / "cinema.sqlite"
    connection = sqlite3.connect(file)
    connection.executescript(TABLES)
    for table, values in rows().items() if filled else ():
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values[0]))})", values)
    connection.commit()
    connection.close()
    return file
