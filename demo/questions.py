"""Questions and their SQL over the tables of schemas.py.

Each kind of question is a method of Asker that returns the English and the SQL. Every wording determines its SQL, so
that an exact match is a fair measure.
"""

from phrases import AGGREGATES, ALL, COMPARE, EACH, HIGH, LIST, LOW, ONE, Phrases
from schemas import human, plural


class Asker(Phrases):
    """Asks one question about a schema; `ask` returns (question, SQL)."""

    def __init__(self, rng, schema):
        super().__init__(rng, schema)
        self.pairs = [(parent, child) for child in schema for parent in schema if parent.noun in child.links]

    def ask(self):
        kinds = {**SINGLE, **(JOINED if self.pairs else {})}
        return self.rng.choices(list(kinds), list(kinds.values()))[0](self)

    # One table

    def count_all(self):
        t = self.table()
        return self.phrase(
            f"[How many {{p}} [are there|exist|do we have|are listed]|Count {ALL} {{p}}|{ONE} the [total|] "
            f"number of {{p}}]",
            t,
        ), f"SELECT COUNT(*) FROM {t.name}"

    def count_where(self):
        t = self.table()
        w, sql = self.condition(t)
        return self.phrase(
            f"[How many {{p}} [are there|exist|] {{w}}|Count [the|all|] {{p}} {{w}}|{ONE} the number of {{p}} {{w}}]",
            t,
            w=w,
        ), f"SELECT COUNT(*) FROM {t.name} WHERE {sql}"

    def select_all(self):
        t = self.table()
        a = self.column(t)
        if self.rng.random() < 0.5:
            return self.phrase(
                f"{LIST} the {{a}} of [all|every|all the] {{p}}", t, a=a
            ), f"SELECT {a.name} FROM {t.name}"
        b = self.column(t, a)
        return self.phrase(
            f"[{LIST} the {{a}} and [the|] {{b}} of {ALL} {{p}}|For {EACH} {{n}}, [show|list|give] the {{a}} "
            "and [the|] {b}]",
            t,
            a=a,
            b=b,
        ), f"SELECT {a.name}, {b.name} FROM {t.name}"

    def select_where(self):
        t = self.table()
        a = self.column(t)
        w, sql = self.condition(t, but=(a,))
        if self.rng.random() < 0.75:
            return self.phrase(
                f"[{LIST} the {{a}} of {ALL} {{p}} {{w}}|What {{a}} do the {{p}} {{w}} have|For {ALL} {{p}} "
                "{w}, [what is|show|give|list] the {a}|Which {a} belongs to [the|] {p} {w}]",
                t,
                a=a,
                w=w,
            ), f"SELECT {a.name} FROM {t.name} WHERE {sql}"
        b = self.column(t, a)
        w, sql = self.condition(t, but=(a, b))
        return self.phrase(
            f"[{LIST} the {{a}} and [the|] {{b}} of {ALL} {{p}} {{w}}|For {ALL} {{p}} {{w}}, [show|give|list] "
            "the {a} and [the|] {b}]",
            t,
            a=a,
            b=b,
            w=w,
        ), f"SELECT {a.name}, {b.name} FROM {t.name} WHERE {sql}"

    def star(self):
        t = self.table()
        w, sql = self.condition(t)
        return self.phrase(
            "[Show|List|Give|Display] [everything about|all details of|all columns of|all information "
            "about] [the|] {p} {w}",
            t,
            w=w,
        ), f"SELECT * FROM {t.name} WHERE {sql}"

    def aggregate(self):
        t = self.table()
        a, f = self.number(t), self.rng.choice(list(AGGREGATES))
        word = AGGREGATES[f]
        if self.rng.random() < 0.4:
            return self.phrase(
                f"{ONE} the {word} {{a}} [of|over|among] [all|all the|the] {{p}}", t, a=a
            ), f"SELECT {f}({a.name}) FROM {t.name}"
        w, sql = self.condition(t, but=(a,))
        return self.phrase(
            f"[{ONE} the {word} {{a}} of [the|all|] {{p}} {{w}}|[Among|For|Of] [the|all|] {{p}} {{w}}, what "
            f"is the {word} {{a}}]",
            t,
            a=a,
            w=w,
        ), f"SELECT {f}({a.name}) FROM {t.name} WHERE {sql}"

    def aggregates(self):
        t = self.table()
        a = self.number(t)
        f, g = self.rng.sample(list(AGGREGATES), 2)
        return self.phrase(
            f"[{ONE} the {AGGREGATES[f]} and [the|] {AGGREGATES[g]} {{a}} of {ALL} {{p}}|Over all {{p}}, what "
            f"are the {AGGREGATES[f]} and [the|] {AGGREGATES[g]} {{a}}]",
            t,
            a=a,
        ), f"SELECT {f}({a.name}), {g}({a.name}) FROM {t.name}"

    def group_count(self):
        t = self.table()
        a = self.text(t)
        where, w = "", ""
        if self.rng.random() < 0.25:
            w, sql = self.condition(t, simple=True, but=(a,))
            where = f" WHERE {sql}"
        return self.phrase(
            f"[How many {{p}} {{w}} are there [for|in|per] each {{a}}|Count the {{p}} {{w}} [by|for each|per] {{a}}|"
            f"For {EACH} {{a}}, how many {{p}} {{w}} are there|{LIST} [the|] number of {{p}} {{w}} [per|by|for "
            "each] {a}|[Show|List|Give] each {a} and [the|its] number of {p} {w}]",
            t,
            a=a,
            w=w,
        ), f"SELECT {a.name}, COUNT(*) FROM {t.name}{where} GROUP BY {a.name}"

    def group_aggregate(self):
        t = self.table()
        a, b, f = self.text(t), self.number(t), self.rng.choice(list(AGGREGATES))
        word = AGGREGATES[f]
        return self.phrase(
            f"[{ONE} the {word} {{b}} of [the|] {{p}} [for each|per|by] {{a}}|For {EACH} {{a}}, [what is|show|"
            f"find] the {word} {{b}} of [the|its|] {{p}}|[Show|List|Give] each {{a}} and the {word} {{b}} of "
            "its {p}]",
            t,
            a=a,
            b=b,
        ), f"SELECT {a.name}, {f}({b.name}) FROM {t.name} GROUP BY {a.name}"

    def having_count(self):
        t = self.table()
        a, k, sign = self.text(t), self.rng.randint(2, 30), self.rng.choice(list(COMPARE))
        return self.phrase(
            f"[Which {{a}} [has|appears in|is shared by] {COMPARE[sign]} {{k}} {{p}}|[Show|List|Find] "
            f"[each|every] {{a}} [with|that has|shared by] {COMPARE[sign]} {{k}} {{p}}]",
            t,
            a=a,
            k=k,
        ), f"SELECT {a.name} FROM {t.name} GROUP BY {a.name} HAVING COUNT(*) {sign} {k}"

    def having_aggregate(self):
        t = self.table()
        a, b, f = self.text(t), self.number(t), self.rng.choice(list(AGGREGATES))
        v, sign = b.value(self.rng), self.rng.choice(list(COMPARE))
        return self.phrase(
            f"[For which {{a}} is the {AGGREGATES[f]} {{b}} of [the|its|] {{p}} {COMPARE[sign]} {{v}}|[Show|List|"
            f"Find] [each|every] {{a}} whose {{p}} have a {AGGREGATES[f]} {{b}} of {COMPARE[sign]} {{v}}]",
            t,
            a=a,
            b=b,
            v=v,
        ), f"SELECT {a.name} FROM {t.name} GROUP BY {a.name} HAVING {f}({b.name}) {sign} {v}"

    def order(self):
        t = self.table()
        a = self.column(t)
        b = self.column(t, a)
        where, w = "", ""
        if self.rng.random() < 0.4:
            w, sql = self.condition(t, simple=True, but=(a, b))
            where = f" WHERE {sql}"
        down = self.rng.random() < 0.5
        by = (
            "in descending order of {b}|from highest to lowest {b}|by descending {b}"
            if down
            else "in ascending order of {b}|from lowest to highest {b}|by ascending {b}|ordered by {b}|sorted by {b}"
        )
        sort = "by {b} [from highest to lowest|in descending order]" if down else "by {b} [in ascending order|]"
        return self.phrase(
            f"[[Show|List|Give] the {{a}} of {ALL} {{p}} {{w}} [{by}]|[Sort|Order] the {{p}} {{w}} {sort} and "
            "[show|list|give] [their|the] {a}]",
            t,
            a=a,
            b=b,
            w=w,
        ), f"SELECT {a.name} FROM {t.name}{where} ORDER BY {b.name}{' DESC' if down else ''}"

    def superlative(self):
        t = self.table()
        a, b = self.column(t), self.number(t)
        word, sql = self.rng.choice(((HIGH, " DESC"), (LOW, "")))
        where, w = "", ""
        if self.rng.random() < 0.25:
            w, cond = self.condition(t, simple=True, but=(a, b))
            w, where = f"among those {w}", f" WHERE {cond}"
        return self.phrase(
            f"[{ONE} the {{a}} of the {{n}} [with|that has] the {word} {{b}} {{w}}|Which {{a}} belongs to the {{n}} "
            f"with the {word} {{b}} {{w}}|Which {{n}} has the {word} {{b}} {{w}}, and what is its {{a}}]",
            t,
            a=a,
            b=b,
            w=w,
        ), f"SELECT {a.name} FROM {t.name}{where} ORDER BY {b.name}{sql} LIMIT 1"

    def top(self):
        t = self.table()
        a, b, k = self.column(t), self.number(t), self.rng.randint(2, 20)
        word, sql = self.rng.choice(((HIGH, " DESC"), (LOW, "")))
        return self.phrase(
            f"[{LIST} the {{a}} of the {{k}} {{p}} with the {word} {{b}}|Which {{k}} {{p}} have the {word} {{b}}, "
            f"[by|listed by] {{a}}|Take the {{k}} {{p}} with the {word} {{b}} and [show|list] their {{a}}]",
            t,
            a=a,
            b=b,
            k=k,
        ), f"SELECT {a.name} FROM {t.name} ORDER BY {b.name}{sql} LIMIT {k}"

    def distinct(self):
        t = self.table()
        a = self.text(t)
        where, w = "", ""
        if self.rng.random() < 0.4:
            w, sql = self.condition(t, simple=True, but=(a,))
            where = f" WHERE {sql}"
        if self.rng.random() < 0.5:
            return self.phrase(
                "[How many [different|distinct|unique] values of {a} do the {p} {w} have|Count the "
                "[different|distinct|unique] values of {a} of [the|] {p} {w}]",
                t,
                a=a,
                w=w,
            ), f"SELECT COUNT(DISTINCT {a.name}) FROM {t.name}{where}"
        return self.phrase(
            f"[{LIST} the [different|distinct|unique] values of {{a}} [of|among] [the|] {{p}} {{w}}|{LIST} "
            "[every|each] {a} of [the|] {p} {w} [once|without repeats|without duplicates]]",
            t,
            a=a,
            w=w,
        ), f"SELECT DISTINCT {a.name} FROM {t.name}{where}"

    def beyond_average(self):
        t = self.table()
        a, b = self.column(t), self.number(t)
        word, sign = self.rng.choice(
            (("[above|higher than|greater than|over]", ">"), ("[below|lower than|less than|under]", "<"))
        )
        return self.phrase(
            f"[{LIST} the {{a}} of {ALL} {{p}} [whose {{b}} is|with a {{b}}] {word} [the average|average|the mean]|"
            f"Which {{p}} have a {{b}} {word} [the average|average], [by|listed by] {{a}}]",
            t,
            a=a,
            b=b,
        ), f"SELECT {a.name} FROM {t.name} WHERE {b.name} {sign} (SELECT AVG({b.name}) FROM {t.name})"

    def most_common(self):
        t = self.table()
        a = self.text(t)
        word, sql = self.rng.choice((("most", " DESC"), ("fewest", "")))
        common = "most [common|frequent]" if sql else "[rarest|least common]"
        return self.phrase(
            f"[Which {{a}} has the {word} {{p}}|{ONE} the {common} {{a}} [of|among] [the|all|] {{p}}|[Find|Show|"
            f"Give] the {{a}} with the {word} {{p}}]",
            t,
            a=a,
        ), f"SELECT {a.name} FROM {t.name} GROUP BY {a.name} ORDER BY COUNT(*){sql} LIMIT 1"

    def sets(self):
        t = self.table()
        a = self.text(t)
        (w, first), (v, second) = (self.condition(t, simple=True, but=(a,)) for _ in range(2))
        words, operator = self.rng.choice(
            (
                ("[Which {a} is shared by {p} {w} and {p} {v}|Find each {a} of both {p} {w} and {p} {v}]", "INTERSECT"),
                (
                    "[Which {a} belongs to {p} {w} but not to {p} {v}|Find each {a} of {p} {w} but of no {p} {v}]",
                    "EXCEPT",
                ),
            )
        )
        return self.phrase(
            words, t, a=a, w=w, v=v
        ), f"SELECT {a.name} FROM {t.name} WHERE {first} {operator} SELECT {a.name} FROM {t.name} WHERE {second}"

    # Two tables and three

    def pair(self):
        """Two related tables, each in either part: (one, other, JOIN clause)."""
        parent, child = self.rng.choice(self.pairs)
        own, key = child.links[parent.noun]
        if self.rng.random() < 0.5:
            return parent, child, f"FROM {parent.name} AS T1 JOIN {child.name} AS T2 ON T1.{key} = T2.{own}"
        return child, parent, f"FROM {child.name} AS T1 JOIN {parent.name} AS T2 ON T1.{own} = T2.{key}"

    def related(self, one, other):
        """The phrase that ties `one` to a condition {w} on `other`: what a child has is one, what a parent has are many."""
        if one.noun in other.links:
            return "[that have {o} {w}|having {o} {w}|which have {o} {w}]", plural(other.noun)
        return "[of the {o} {w}|that belong to the {o} {w}|belonging to the {o} {w}]", plural(other.noun)

    def join_select(self):
        one, other, join = self.pair()
        a = self.column(one)
        w, sql = self.condition(other, "T2.")
        tie, o = self.related(one, other)
        return self.phrase(
            f"[{LIST} the {{a}} of {ALL} {{p}} {tie}|For {ALL} {{p}} {tie}, [show|list|give] the {{a}}]",
            one,
            a=a,
            o=human(o),
            w=w,
        ), f"SELECT T1.{a.name} {join} WHERE {sql}"

    def join_count(self):
        one, other, join = self.pair()
        w, sql = self.condition(other, "T2.")
        tie, o = self.related(one, other)
        return self.phrase(
            f"[How many {{p}} are there {tie}|Count {ALL} {{p}} {tie}|{ONE} the number of {{p}} {tie}]",
            one,
            o=human(o),
            w=w,
        ), f"SELECT COUNT(*) {join} WHERE {sql}"

    def join_aggregate(self):
        one, other, join = self.pair()
        a, f = self.number(one), self.rng.choice(list(AGGREGATES))
        w, sql = self.condition(other, "T2.")
        tie, o = self.related(one, other)
        return self.phrase(
            f"[{ONE} the {AGGREGATES[f]} {{a}} of {ALL} {{p}} {tie}|[Among|Of] {ALL} {{p}} {tie}, what is the "
            f"{AGGREGATES[f]} {{a}}]",
            one,
            a=a,
            o=human(o),
            w=w,
        ), f"SELECT {f}(T1.{a.name}) {join} WHERE {sql}"

    def join_both(self):
        parent, child = self.rng.choice(self.pairs)
        own, key = child.links[parent.noun]
        a, b = self.column(child), self.column(parent)
        return self.phrase(
            f"[{LIST} the {{a}} of {EACH} {{n}} and the {{b}} of its {{o}}|For {EACH} {{n}}, [show|list|give] the "
            "{a} and the {b} of its {o}|[Show|List|Give] each {n} by {a} together with the {b} of its {o}]",
            child,
            a=a,
            b=b,
            o=human(parent.noun),
        ), f"SELECT T1.{a.name}, T2.{b.name} FROM {child.name} AS T1 JOIN {parent.name} AS T2 ON T1.{own} = T2.{key}"

    def join_group(self):
        parent, child = self.rng.choice(self.pairs)
        own, key = child.links[parent.noun]
        a = self.text(parent)
        join = f"FROM {parent.name} AS T1 JOIN {child.name} AS T2 ON T1.{key} = T2.{own} GROUP BY T1.{a.name}"
        o, r = human(plural(child.noun)), self.rng.random()
        if r < 0.3:
            b, f = self.number(child), self.rng.choice(list(AGGREGATES))
            return self.phrase(
                f"[For {EACH} {{n}} {{a}}, what is the {AGGREGATES[f]} {{b}} of the {{o}}|{ONE} the {AGGREGATES[f]} "
                "{b} of the {o} [for each|per] {n} {a}]",
                parent,
                a=a,
                b=b,
                o=o,
            ), f"SELECT T1.{a.name}, {f}(T2.{b.name}) {join}"
        if r < 0.6:
            return self.phrase(
                f"[For {EACH} {{n}} {{a}}, how many {{o}} are there|How many {{o}} are there [for each|per] {{n}} "
                "{a}|Count the {o} [for each|per] {n} {a}]",
                parent,
                a=a,
                o=o,
            ), f"SELECT T1.{a.name}, COUNT(*) {join}"
        if r < 0.8:
            word, sql = self.rng.choice((("most", " DESC"), ("fewest", "")))
            return self.phrase(
                f"[Which {{n}} {{a}} has the {word} {{o}}|{ONE} the {{a}} of the {{n}} with the {word} {{o}}]",
                parent,
                a=a,
                o=o,
            ), f"SELECT T1.{a.name} {join} ORDER BY COUNT(*){sql} LIMIT 1"
        k, sign = self.rng.randint(2, 30), self.rng.choice(list(COMPARE))
        return self.phrase(
            f"[Which {{n}} {{a}} has {COMPARE[sign]} {{k}} {{o}}|{LIST} the {{a}} of [the|all|] {{p}} "
            f"[with|that have] {COMPARE[sign]} {{k}} {{o}}]",
            parent,
            a=a,
            o=o,
            k=k,
        ), f"SELECT T1.{a.name} {join} HAVING COUNT(*) {sign} {k}"

    def membership(self):
        parent, child = self.rng.choice(self.pairs)
        own, key = child.links[parent.noun]
        a = self.column(parent)
        words, operator = self.rng.choice(
            (
                ("[with no|without any|that do not have any|that have no] {o}", "NOT IN"),
                ("[with|that have|having] at least one {s}", "IN"),
            )
        )
        return self.phrase(
            f"{LIST} the {{a}} of {ALL} {{p}} {words}", parent, a=a, o=human(plural(child.noun)), s=human(child.noun)
        ), f"SELECT {a.name} FROM {parent.name} WHERE {key} {operator} (SELECT {own} FROM {child.name})"


SINGLE = {
    Asker.count_all: 2,
    Asker.count_where: 8,
    Asker.select_all: 4,
    Asker.select_where: 14,
    Asker.star: 2,
    Asker.aggregate: 8,
    Asker.aggregates: 2,
    Asker.group_count: 5,
    Asker.group_aggregate: 4,
    Asker.having_count: 3,
    Asker.having_aggregate: 2,
    Asker.order: 5,
    Asker.superlative: 6,
    Asker.top: 4,
    Asker.distinct: 5,
    Asker.beyond_average: 3,
    Asker.most_common: 3,
    Asker.sets: 2,
}
JOINED = {
    Asker.join_select: 14,
    Asker.join_count: 6,
    Asker.join_aggregate: 6,
    Asker.join_both: 6,
    Asker.join_group: 10,
    Asker.membership: 6,
}
