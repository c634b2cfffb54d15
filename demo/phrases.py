"""A small grammar of English over the tables of schemas.py: words, sentences, and conditions with their SQL.

A phrase writes alternatives as [one|another] and slots as {c}.
"""

import re

from schemas import human, plural

LIST = "[What are|Show|List|Give|Find|Show me|Give me|Return|Display|Please list]"
ONE = "[What is|Find|Give|Show|Tell me|Give me|Return|I need]"
ALL = "[the|all|all the|]"
EACH = "[each|every]"
HIGH, LOW = "[highest|largest|greatest|biggest]", "[lowest|smallest|least]"
AGGREGATES = {
    "MAX": "[maximum|highest|largest|greatest]",
    "MIN": "[minimum|lowest|smallest|least]",
    "AVG": "[average|mean]",
    "SUM": "[total|combined|summed]",
}
COMPARE = {
    ">": "[more than|over|above|greater than|higher than]",
    ">=": "[at least|no less than|not less than]",
    "<": "[less than|under|below|lower than]",
    "<=": "[at most|no more than|not more than]",
}
ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")


def say(rng, phrase: str, **slots) -> str:
    """A sentence: one branch of every [a|b], the slots filled in, and the full stop or question mark it asks for."""
    while "[" in phrase:
        phrase = ALTERNATIVES.sub(lambda m: rng.choice(m[1].split("|")), phrase)
    asks = re.match(r"\s*((For w|W)hat|(For w|W)hich|How)\b", phrase) or re.search(r", (what|how)\b", phrase)
    mark = "" if rng.random() < 0.08 else "?" if asks else "."
    return " ".join(phrase.format(**slots).split()).replace(" ,", ",") + mark


def literal(value) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class Phrases:
    """Picks tables, columns and wordings for questions about one schema."""

    def __init__(self, rng, schema):
        self.rng, self.schema = rng, schema

    def phrase(self, text, table=None, **slots):
        if table:
            slots.update(n=human(table.noun), p=human(plural(table.noun)))
        slots.update({k: human(v.name) for k, v in slots.items() if hasattr(v, "is_number")})
        return say(self.rng, text, **slots)

    def bit(self, text, **slots):
        """A part of a sentence, without its mark; braces and brackets of values cannot clash with the grammar's."""
        return self.phrase(text, **slots).rstrip("?.")

    def table(self):
        return self.rng.choice(self.schema)

    def column(self, table, *but):
        return self.rng.choice([c for c in table.columns if c not in but] or table.columns)

    def text(self, table):
        return self.rng.choice(table.texts)

    def number(self, table):
        return self.rng.choice(table.numbers)

    def condition(self, table, prefix="", simple=False, but=()):
        """A condition on a table: the English that follows its noun, and the SQL."""
        r = self.rng.random()
        if not simple and r < 0.12:
            first, second = self.condition(table, prefix, True), self.condition(table, prefix, True)
            if first[1].split()[0] != second[1].split()[0] and " OR " not in first[1] + second[1]:
                word = self.rng.choice(("and", "and", "or"))
                return f"{first[0]} {word} {second[0]}", f"{first[1]} {word.upper()} {second[1]}"
        c = self.column(table, *but)
        name, v = prefix + c.name, c.value(self.rng)
        shown = f'"{v}"' if not c.is_number and self.rng.random() < 0.1 else v
        if c.is_number:
            if r > 0.92:
                v, w = sorted((v, c.value(self.rng) + 1))
                return (
                    self.bit(
                        "[whose {c} is between {v} and {w}|with [a|] {c} [between {v} and {w}|from {v} to {w}]]",
                        c=c,
                        v=v,
                        w=w,
                    ),
                    f"{name} BETWEEN {v} AND {w}",
                )
            if r > 0.74:
                return self.bit(
                    "[whose {c} [is|is exactly|equals] {v}|with [a|] {c} of [exactly|] {v}|that have "
                    "[a|] {c} of {v}|where the {c} is {v}]",
                    c=c,
                    v=v,
                ), f"{name} = {v}"
            sign = self.rng.choice(list(COMPARE))
            text = f"[whose {{c}} is {COMPARE[sign]} {{v}}|with [a|] {{c}} [of|] {COMPARE[sign]} {{v}}|that have "
            text += f"[a|] {{c}} of {COMPARE[sign]} {{v}}|where the {{c}} is {COMPARE[sign]} {{v}}|with {COMPARE[sign]} {{v}} {{c}}]"
            return self.bit(text, c=c, v=v), f"{name} {sign} {v}"
        if r > 0.92:
            part = v.split()[0] if self.rng.random() < 0.5 else v
            word, like = self.rng.choice(
                (("[contains|includes]", "'%{}%'"), ("[starts|begins] with", "'{}%'"), ("ends with", "'%{}'"))
            )
            return (self.bit(f"whose {{c}} {word} [the text|] {{v}}", c=c, v=part), f"{name} LIKE {like.format(part)}")
        if r > 0.86:
            return self.bit(
                "[whose {c} is not {v}|with a {c} other than {v}|that do not have {v} as {c}]", c=c, v=shown
            ), f"{name} <> {literal(v)}"
        if r > 0.82:
            return self.bit(
                "[without a {c}|whose {c} is [missing|unknown|not known]|with no {c}]", c=c
            ), f"{name} IS NULL"
        other = c.value(self.rng)
        if r > 0.76 and other != v:
            return (
                self.bit("whose {c} is [either|] {v} or {w}", c=c, v=v, w=other),
                f"{name} = {literal(v)} OR {name} = {literal(other)}",
            )
        return self.bit(
            "[whose {c} is {v}|with [the|a|] {c} {v}|with a {c} of {v}|that have {v} as [the|their|] {c}|"
            "that have the {c} {v}|having {v} as {c}|where the {c} is {v}|for which the {c} is {v}]",
            c=c,
            v=shown,
        ), f"{name} = {literal(v)}"
