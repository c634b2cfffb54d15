"""Databases: those of the subjects in domains.py, and invented ones.

The invented ones teach a model to copy a name that it has never seen. They are drawn from a space so large that
pre-training hardly meets one twice.
"""

import re
from dataclasses import dataclass, field

from domains import DEV, POOLS, SEEN, TEST

SHARES = {"seen": (0, 1, 2, 3), "dev": (4,), "test": (5,)}  # of each pool of values, by the value's place modulo six


def plural(noun: str) -> str:
    """The English plural by rule; domains.py names nothing irregular."""
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def human(name: str) -> str:
    """A name as English spells it."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Column:
    """A column: its name, and the values it takes, texts or the least and greatest number."""

    name: str
    values: tuple

    @property
    def is_number(self) -> bool:
        return isinstance(self.values[0], int)

    def value(self, rng):
        """One value; numbers are round where people round them."""
        if not self.is_number:
            return rng.choice(self.values)
        low, high = self.values
        number = rng.randint(low, high)
        step = 100 if high >= 10000 else 10 if high >= 300 and low < 1000 else 1
        return number // step * step if number >= step and rng.random() < 0.6 else number


@dataclass
class Table:
    """A table of one database; `links` maps each parent's noun to (own column, parent's column)."""

    noun: str
    columns: list
    parents: tuple = ()
    name: str = ""
    keys: list = field(default_factory=list)
    links: dict = field(default_factory=dict)

    @property
    def texts(self):
        return [c for c in self.columns if not c.is_number]

    @property
    def numbers(self):
        return [c for c in self.columns if c.is_number]

    def ddl(self) -> str:
        columns = [f"{key} INTEGER" for key in self.keys]
        columns += [f"{c.name} {'INTEGER' if c.is_number else 'VARCHAR'}" for c in self.columns]
        return f"CREATE TABLE {self.name} ({', '.join(columns)})"


def pool(name: str, split: str, rng) -> tuple:
    """Some values of a pool of domains.py; the splits share none of a pool of more than twenty."""

    def words(key):
        entries = POOLS[key].split()
        return [w for i, w in enumerate(entries) if i % 6 in SHARES[split]] if len(entries) > 20 else entries

    if name == "person":
        return tuple(f"{rng.choice(words('first'))} {rng.choice(words('last'))}" for _ in range(4))
    if name == "title":
        return tuple(f"{rng.choice(words('adjective'))} {rng.choice(words('thing'))}" for _ in range(4))
    if name == "date":
        return tuple(f"{rng.randint(1990, 2025)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" for _ in range(4))
    if name == "street":
        return tuple(f"{rng.choice(words('thing'))} {rng.choice(['Street', 'Road', 'Lane'])}" for _ in range(4))
    if name == "code":
        return tuple(
            f"{rng.choice('ABCDEFGHKLMNPRSTVWXZ')}{rng.choice('ABCDEFGHKLMNPRSTVWXZ')}{rng.randint(1, 999)}"
            for _ in range(4)
        )
    if name == "email":
        return tuple(f"{rng.choice(words('first')).lower()}@{rng.choice(words('last')).lower()}.com" for _ in range(4))
    return tuple(words(name))


def parse_domains(text: str) -> dict:
    """{domain: [(noun, parents, {column: specification})]} of a block of domains.py."""
    domains = {}
    for line in text.strip().splitlines():
        if line.startswith("#"):
            tables = domains[line[1:].strip()] = []
        elif line:
            head, _, body = line.partition(": ")
            noun, _, parents = head.partition(" > ")
            tables.append((noun, tuple(parents.split()), dict(re.findall(r"(\w+)[=:](\S+)", body))))
    return domains


DOMAINS = {"seen": parse_domains(SEEN), "dev": parse_domains(DEV), "test": parse_domains(TEST)}


def domain_tables(rng, split: str) -> list[Table]:
    """The tables of one domain of a split, each with some of its columns and with fresh values."""
    tables = []
    for noun, parents, columns in DOMAINS[split][rng.choice(list(DOMAINS[split]))]:
        built = []
        for name, spec in columns.items():
            if spec[0] == "@":
                values = pool(spec[1:], split, rng)
            elif re.fullmatch(r"\d+-\d+", spec):
                values = tuple(map(int, spec.split("-")))
            else:
                values = tuple(human(v) for v in spec.split("|"))
            built.append(Column(name, values))
        tables.append(Table(noun, built, parents))
    return tables


def words_of(split: str) -> set:
    """The words that the names of a split are made of."""
    return {
        word
        for tables in DOMAINS[split].values()
        for noun, _, columns in tables
        for name in (noun, *columns)
        for word in name.split("_")
    }


HELD_OUT = words_of("dev") | words_of("test")
HELD_OUT |= {plural(word) for word in HELD_OUT} | {word[:-1] for word in HELD_OUT if word[-1] == "s"}
RESERVED = set(
    "add all and any as asc by case cast desc do drop else end for from full glob group if in index into is join key left "
    "like limit no not null of off on or order row rows select set table then to top union use using value values view when "
    "where with id".split()
)
SEEN_WORDS = sorted(word for word in words_of("seen") - HELD_OUT - RESERVED if len(word) > 2 and word[-1] != "s")
ONSETS = (
    "b c d f g h j k l m n p r s t v w z br bl cl cr dr fl fr gl gr pl pr st str sp tr th sh ch qu sc sk sl wh".split()
)
NUCLEI = "a e i o u a e i o u ea ee oo ou ai oa ie y".split()
CODAS = "b ck d g l ll m n nd ng nt p r rd rk rm rn rt s ss st t tch th x sh ch mp nk lf lt ct w".split()
ENDINGS = (
    "er or ing ion ation age al ity ure ance ment ness ic ive ist ery le el on um us ary y an ine ate ship".split()
)


def invent_word(rng) -> str:
    """A word of syllables, of two halves of words, a word of another subject, or an abbreviation.

    Never a keyword, and never a word of the held-out domains.
    """
    kind = rng.random()
    if kind < 0.03:
        return "".join(rng.choices("bcdfghklmnpqrstvwxyz", k=rng.randint(2, 4)))
    if kind < 0.28:
        return rng.choice(SEEN_WORDS)
    if kind < 0.56:
        first, last = rng.choices(SEEN_WORDS, k=2)
        word = first[: rng.randint(2, 5)] + last[-rng.randint(2, 5) :]
    else:
        word = ""
        for _ in range(rng.choice((1, 1, 2, 2, 2, 3))):
            word += rng.choice(ONSETS) if not word or rng.random() < 0.8 else ""
            word += rng.choice(NUCLEI) + (rng.choice(CODAS) if rng.random() < 0.5 else "")
        word += rng.choice(ENDINGS) if rng.random() < 0.3 else ""
    return invent_word(rng) if len(word) < 3 or len(word) > 12 or word in RESERVED or word in HELD_OUT else word


def invent_name(rng, known=()) -> str:
    """A name of one to three words; now and then it takes a word, or the stem of one, from the names in `known`."""
    words = [invent_word(rng) for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 2, 3)))]
    if known and rng.random() < 0.3:
        word = rng.choice(rng.choice(known).split("_"))
        word += rng.choice(ENDINGS) if rng.random() < 0.3 else ""
        if word not in HELD_OUT and word not in RESERVED:
            words[rng.randrange(len(words))] = word
    return "_".join(words)


def invent_value(rng) -> str:
    kind = rng.random()
    words = [invent_word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if kind < 0.5:
        return " ".join(w.capitalize() for w in words)
    if kind < 0.8:
        return " ".join(words)
    if kind < 0.9:
        return pool("date", "seen", rng)[0]
    return rng.choice((pool("code", "seen", rng)[0], words[0].upper(), f"{words[0].capitalize()} {rng.randint(1, 99)}"))


def invent_tables(rng) -> list[Table]:
    """Three related tables with invented names and values."""
    nouns = []
    while len(nouns) < 3:
        noun = invent_name(rng, nouns)
        if noun not in nouns:
            nouns.append(noun)
    shared = [invent_name(rng) for _ in range(2)]  # two tables of a database often have a column of the same name
    tables = []
    for noun, parents in zip(nouns, ((), nouns[:1], rng.choice((nouns[:2], nouns[1:2])))):
        names = []
        while len(names) < 5:
            name = rng.choice(shared) if rng.random() < 0.1 else invent_name(rng, nouns + names)
            name = plural(name) if rng.random() < 0.15 else name
            if name not in nouns + names:
                names.append(name)
        columns = []
        for i, name in enumerate(names):
            if i < 2 or rng.random() < 0.5:
                values = tuple(invent_value(rng) for _ in range(3))
            else:
                low = rng.choice((0, 1, 10, 1900))
                values = (low, low + 10 ** rng.randint(1, 5))
            columns.append(Column(name, values))
        if not columns[-1].is_number:
            columns[-1] = Column(columns[-1].name, (1, 10 ** rng.randint(1, 4)))
        tables.append(Table(noun, columns, tuple(parents)))
    return tables


def sample_schema(rng, tables: list[Table]) -> list[Table]:
    """One to three of the tables, related if more than one, with some of their columns, keys and naming habits."""
    tables = list(tables)
    size = rng.choice((1, 1, 1, 2, 2, 2, 2, 3))
    child = rng.choice([t for t in tables if t.parents]) if size > 1 else rng.choice(tables)
    chosen = {child.noun}
    if size > 1:
        chosen.add(rng.choice(child.parents))
    if size > 2:
        near = [
            t.noun
            for t in tables
            if t.noun in child.parents
            or set(t.parents) & chosen
            or t.noun in {p for u in tables if u.noun in chosen for p in u.parents}
        ]
        chosen.add(rng.choice(near))
    schema = [t for t in tables if t.noun in chosen]
    plurals, plain_id = rng.random() < 0.3, rng.random() < 0.3
    for table in schema:
        most = {1: 6, 2: 5, 3: 4}[len(schema)]
        keep = rng.sample(table.columns, min(len(table.columns), rng.randint(3, most)))
        if not any(c.is_number for c in keep):
            keep[0] = rng.choice(table.numbers)
        if all(c.is_number for c in keep):
            keep[0] = rng.choice(table.texts)
        table.columns = [c for c in table.columns if c in keep]
        table.name = plural(table.noun) if plurals else table.noun
        table.keys = []
        if any(table.noun in t.parents for t in schema) or rng.random() < 0.15:
            table.keys.append("id" if plain_id else f"{table.noun}_id")
    for table in schema:
        for parent in (t for t in schema if t.noun in table.parents):
            table.links[parent.noun] = (f"{parent.noun}_id", parent.keys[0])
            table.keys.append(f"{parent.noun}_id")
    rng.shuffle(schema)
    return schema


def context(schema: list[Table]) -> str:
    """The CREATE TABLE statements in the style of sql-create-context."""
    return "; ".join(table.ddl() for table in schema)
