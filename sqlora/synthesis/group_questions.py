"""Questions about groups: of rows that have the same value, and of the rows that refer to the same row of a parent."""

from __future__ import annotations

from sqlora.synthesis.names import singular
from sqlora.synthesis.query_tree import COUNT, Having, Order, Output
from sqlora.synthesis.wording import Wording, listed

COUNTS = {">": ("more than",), ">=": ("at least",), "<": ("fewer than", "less than"), "=": ("exactly",)}


class GroupQuestion(Wording):
    """Words for a query with GROUP BY."""

    def text(self) -> str:
        """A question without its last sign."""
        self.noun, self.which = self.counted()
        self.rows = f"{self.noun} {self.which}".rstrip()  # in one wording throughout
        self.measures = [output for output in self.query.outputs if output.aggregate]
        return self._of_values() if self.query.subject == self.query.rows.table else self._of_parents()

    def measured(self, output: Output) -> str:
        return f"the number of {self.rows}" if output == COUNT else super().measured(output)

    def _of_values(self) -> str:
        query = self.query
        assert query.group
        name, many = (self.phrases.column(query.group, number) for number in (False, True))
        if query.having:
            shown = f"? Show the {many} and {self._figure()} of each" if self.measures else ""
            return self._values_having(query.having, many) + shown
        if query.order and query.order.limit is not None:
            return self._top_values(query.order, query.order.limit, name, many)
        figure = self._figure()
        if self.measures == [COUNT]:
            text = self.pick(
                f"How many {self.rows} are there for each {name}",
                f"Show each {name} and {figure}",
                f"For each {name}, show {figure}",
                f"What is {figure} for each {name}",
                f"Show the {many} and {figure} for each",
            )
        else:
            text = self.pick(
                f"What is {figure} for each {name}",
                f"For each {name}, show {figure}",
                f"Show {figure} for each {name}",
                f"Find each {name} and {figure}",
            )
        return text + (f", {self.sorted_by(query.order)}" if query.order else "")

    def _values_having(self, having: Having, many: str) -> str:
        said = self._having(having)
        if having.output == COUNT:
            return self.pick(f"Which {many} have", f"Show the {many} that have", f"Find the {many} with") + f" {said}"
        return f"For which {many} is {said}"

    def _top_values(self, order: Order, limit: int, name: str, many: str) -> str:
        """The groups with the most rows, or the highest figure."""
        chosen = name if limit == 1 else many
        number = "" if limit == 1 else f"{self.number(limit)} "
        shown = f"? Show the {chosen} and {self._figure()}" if self.measures else ""
        which = f"Which {number}{chosen} {'has' if limit == 1 else 'have'}"
        if order.by != COUNT:
            top = "highest" if order.descending else "lowest"
            return f"{which} the {top} {self.measured(order.by)} of {self.rows}{shown}"
        most = "most" if order.descending else self.pick("fewest", "smallest number of")
        common = f"{'most' if order.descending else 'least'} common {chosen}"
        return (
            self.pick(
                f"{which} the {most} {self.rows}",
                f"What {'is' if limit == 1 else 'are'} the {number}{common} of {self.rows}",
            )
            + shown
        )

    def _figure(self) -> str:
        """The figures of a group of rows."""
        said = [self.measured(one) if one == COUNT else f"the {self.measured(one)}" for one in self.measures]
        return listed(said) + (f" of {self.rows}" if COUNT not in self.measures else "")

    def _having(self, having: Having) -> str:
        if having.output == COUNT:
            number = int(str(having.value))
            rows = self.rows if number != 1 else f"{singular(self.noun)} {self.which}".rstrip()
            return f"{self.pick(*COUNTS[having.operator])} {self.number(number)} {rows}"
        assert having.output.place
        than = f"{self.phrases.compared(having.output.place, having.operator)} {self.phrases.value(having.value)}"
        return f"the {self.measured(having.output)} of {self.rows} {than}"

    def _of_parents(self) -> str:
        query, phrases = self.query, self.phrases
        one, several = (phrases.noun(query.subject, number) for number in (False, True))
        role = phrases.role(self.link())
        figure = self._figure() if self.measures else ""
        if query.having:
            said = self._having(query.having)
            if query.having.output != COUNT:
                which = f"for which {said.replace(f' of {self.rows}', f' of {self.rows} is', 1)}"
            else:
                which = f"that are the {role} of {said}" if role else f"{self.pick('that have', 'with')} {said}"
            return f"{self.ask(True)} {self.columns(True)} of the {several} {which}" + (
                f", and {figure} of each" if figure else ""
            )
        if query.order and query.order.limit is not None:
            many = query.order.limit > 1
            noun = f"{self.number(query.order.limit)} {several}" if many else one
            top = self._top_parent(query.order, many, role)
            return f"{self.ask(many)} {self.columns(many)} of the {noun} {top}" + (f", and {figure}" if figure else "")
        it = "them" if phrases.names.is_person(query.subject) else "it"
        of_which = f" with {it} as {role}" if role else ""
        columns = self.columns(False)
        text = self.pick(
            f"For each {one}, show the {columns} and {figure}{of_which}",
            f"Show the {columns} of each {one} and {figure}{of_which}",
            f"What are the {columns} of each {one} and {figure}{of_which}",
        )
        return text + (f", {self.sorted_by(query.order)}" if query.order else "")

    def _top_parent(self, order: Order, many: bool, role: str) -> str:
        if order.by != COUNT:
            return f"with the {'highest' if order.descending else 'lowest'} {self.measured(order.by)} of {self.rows}"
        most = f"the {'most' if order.descending else 'fewest'} {self.rows}"
        return f"that {'are' if many else 'is'} the {role} of {most}" if role else f"with {most}"
