"""Names of tables and columns as English words: singer_in_concert, CustomerID and countrylanguage in the singular and
the plural.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from sqlora.prompt.schema_linking import WORD
from sqlora.sql.schema import Column, Schema, Table

LONGEST_LABEL = 5  # words of a comment that is a name
ABBREVIATIONS = {
    "abbrev": "abbreviation",
    "addr": "address",
    "amt": "amount",
    "born": "date of birth",
    "cust": "customer",
    "dept": "department",
    "desc": "description",
    "dest": "destination",
    "dob": "date of birth",
    "emp": "employee",
    "fname": "first name",
    "lname": "last name",
    "firstname": "first name",
    "lastname": "last name",
    "fullname": "full name",
    "num": "number",
    "no": "number",
    "nbr": "number",
    "pct": "percentage",
    "qty": "quantity",
    "tel": "telephone",
    "yr": "year",
}
IRREGULAR = {
    "person": "people",
    "child": "children",
    "man": "men",
    "woman": "women",
    "foot": "feet",
    "criterion": "criteria",
    "index": "indices",
    "movie": "movies",
    "bus": "buses",
    "status": "statuses",
    "campus": "campuses",
}
SINGULAR = {plural: singular for singular, plural in IRREGULAR.items()}
UNCHANGED = frozenset("data staff series species news information equipment sales details gnp mpg horsepower".split())
PREFIXES = frozenset("ref tbl dim fact".split())  # of tables' names that say nothing of what is in them
SUFFIXES = frozenset("data list table tbl record records".split())
PARTICLES = frozenset("by from to up off".split())
QUESTIONS = ("is", "has", "if", "was", "can")  # first words of columns that say yes or no
LONGEST_ACRONYM = 4
LEAST_PART = 3  # letters of a word within another
AGENTS = {
    "created by": "creator",
    "directed by": "director",
    "managed by": "manager",
    "owned by": "owner",
    "produced by": "producer",
    "published by": "publisher",
    "reports to": "manager",
    "sold by": "seller",
    "written by": "writer",
}
OF_PEOPLE = frozenset(
    "actor artist author child client coach conductor contestant customer doctor driver employee guest head host "
    "instructor lecturer man manager member musician nurse owner participant patient people person physician pilot "
    "player poker professor scientist singer staff student swimmer teacher tourist user visitor voter woman worker "
    "wrestler".split()
)


def plural(phrase: str) -> str:
    """The plural of a noun phrase: of its last word, or of that before "of" or "in". One in the plural stays, as do
    phrases such as "directed by" or "is male".
    """
    words = phrase.split(" ")
    return phrase if words[-1] in PARTICLES or words[0] in QUESTIONS else _inflected(phrase, _plural)


def singular(phrase: str) -> str:
    """The singular of a noun phrase."""
    return _inflected(phrase, _singular)


def _inflected(phrase: str, inflect: Callable[[str], str]) -> str:
    head, link, rest = re.fullmatch(r"(?s)(.*?)(?:( of | in | for | on | at )(.+))?", phrase).groups("")  # type: ignore[union-attr] # any text
    *before, word = head.split(" ")
    return " ".join([*before, inflect(word)]) + link + rest


def _plural(word: str) -> str:
    word = _singular(word)
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.lower() in UNCHANGED or not word[-1:].isalpha():
        return word
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def _singular(word: str) -> str:
    if word in SINGULAR:
        return SINGULAR[word]
    if (
        word.lower() in UNCHANGED
        or word in IRREGULAR
        or word.isupper()
        or re.search(r"(ss|us|is)$", word)
        or len(word) < 3
    ):
        return word
    if re.search(r"[^aeiou]ies$", word) and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|x|ch|sh|zz)es$", word):
        return word[:-2]
    return word.removesuffix("s")


class Names:
    """The words for the tables and columns of a schema, which are told apart within it.

    >>> Names(parse_schema("CREATE TABLE Singers (Singer_ID INT, Song_Name TEXT)")).column("Singers", "Song_Name")
    'song name'
    """

    def __init__(self, schema: Schema) -> None:
        self._known = {word for table in schema.tables for word in _words(table.name)}
        self._known |= {word for table in schema.tables for one in table.columns for word in _words(one.name)}
        full = {table.name: " ".join(self._split(table.name)) for table in schema.tables}
        short = {name: singular(_without_padding(words)) for name, words in full.items()}
        common = {noun for noun, count in Counter(short.values()).items() if count > 1}
        self._tables = {name: full[name] if noun in common else noun for name, noun in short.items()}
        self._columns = {table.name: self._of_table(table) for table in schema.tables}
        self._labels = {
            (table.name, column.name): label
            for table in schema.tables
            for column in table.columns
            if (label := _label(column.comment))
        }

        spelled = [name for table in schema.tables for name in (table.name, *(one.name for one in table.columns))]
        self._acronyms = {word.lower(): word for name in spelled for word in _acronyms(name)}

    def table(self, name: str) -> str:
        """What a row of the table is, in the singular."""
        return self._spelled(self._tables[name])

    def column(self, table: str, column: str) -> str:
        """What the column is called, in words; those of its table are left out where the others say enough."""
        return self._spelled(self._columns[table][column])

    def label(self, table: str, column: str) -> str:
        """Another name of the column, which its comment gives, or ""."""
        return self._labels.get((table, column), "")

    def is_person(self, table: str) -> bool:
        """Whether the rows of a table are people, as far as its name says."""
        return self.table(table).split(" ")[-1] in OF_PEOPLE

    def _spelled(self, phrase: str) -> str:
        return " ".join(self._acronyms.get(word, word) for word in phrase.split(" "))

    def _of_table(self, table: Table) -> dict[str, str]:
        noun = {*self._tables[table.name].split(" "), *_words(table.name)}
        noun |= {plural(word) for word in noun} | {singular(word) for word in noun}
        full = {
            column.name: self._split(column.name) + (["date"] if _is_moment(column) else []) for column in table.columns
        }
        foreign = {name for reference in table.references for name in reference.columns}
        short = {name: words if name.lower() in foreign else _without(words, noun) for name, words in full.items()}
        if len(key := table.keys[0] if table.keys else ()) == 1:  # StuID is the id of a student
            for name, words in short.items():
                if name.lower() == key[0] and words[-1] == "id":
                    short[name] = ["id"]
        own = self._tables[table.name].split(" ")
        for name, words in short.items():
            if words == own and ["name"] not in short.values():  # Continent of continents
                short[name] = ["name"]
        said = Counter(map(tuple, short.values()))
        return {name: " ".join(words if said[tuple(words)] == 1 else full[name]) for name, words in short.items()}

    def _split(self, name: str) -> list[str]:
        """The words of a name, also where two known ones are written as one."""
        if (whole := re.sub(r"\W|_", "", name).lower()) in ABBREVIATIONS:
            return ABBREVIATIONS[whole].split(" ")
        words: list[str] = []
        for word in _words(name):
            parts = (
                (word[:at], word[at:])
                for at in range(LEAST_PART, len(word) - LEAST_PART + 1)
                if word[:at] in self._known and word[at:] in self._known
            )
            words += next(parts, (ABBREVIATIONS.get(word, word),))
        return words or [name or "column"]


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORD.findall(re.sub(r"\(.*?\)", "", name) or name)]


def _acronyms(name: str) -> list[str]:
    """The words of a name that are in capitals, unless the whole name is."""
    words = [word for word in WORD.findall(name) if not word.isdigit()]
    short = [word for word in words if word.isupper() and 2 <= len(word) <= LONGEST_ACRONYM and word != "ID"]
    return short if len(short) < len(words) or len(words) == 1 else []


def _without(words: list[str], noun: set[str]) -> list[str]:
    """A column's words without those of its table at the start."""
    start = next((i for i, word in enumerate(words) if word not in noun), len(words))
    return words[start:] or words


def _is_moment(column: Column) -> bool:
    """Whether it is a date that is called by what was done, such as created."""
    return column.type in ("date", "timestamp") and column.name.lower().endswith("ed")


def _without_padding(phrase: str) -> str:
    words = phrase.split(" ")
    if len(words) > 1 and words[0] in PREFIXES:
        words = words[1:]
    return " ".join(words[:-1] if len(words) > 1 and words[-1] in SUFFIXES else words)


def _label(comment: str) -> str:
    words = comment.strip().rstrip(".").split()
    is_name = 0 < len(words) <= LONGEST_LABEL and all(word.isalpha() for word in words)
    return " ".join(words).lower() if is_name else ""
