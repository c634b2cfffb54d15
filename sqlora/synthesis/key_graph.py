"""The foreign keys of a schema as questions follow them: from a song to its singer, and across a table that only links
two others.
"""

from __future__ import annotations

from sqlora.sql.schema import Schema, Table
from sqlora.synthesis.query_tree import Link, Place

OWN_COLUMNS = 1  # that a table which links two others may have besides their keys


class KeyGraph:
    """The foreign keys of one column, but for those of a table to itself, and those of several columns."""

    def __init__(self, schema: Schema) -> None:
        self.links = tuple(link for table in schema.tables for link in _links(table, schema))
        self._keys = {(table.name, key[0]) for table in schema.tables for key in table.keys if len(key) == 1}
        self._linking = {table.name for table in schema.tables if self._is_linking(table)}

    def parents(self, table: str) -> list[Link]:
        """The keys of the table."""
        return [link for link in self.links if link.child.table == table]

    def children(self, table: str) -> list[Link]:
        """The keys to the table."""
        return [link for link in self.links if link.parent.table == table]

    def is_linking(self, table: str) -> bool:
        """Whether the table says which rows of two others belong together, and hardly more."""
        return table in self._linking

    def across(self, link: Link) -> Link | None:
        """The other key of a table that links two others."""
        if not self.is_linking(link.child.table):
            return None
        return next((other for other in self.parents(link.child.table) if other != link), None)

    def is_single(self, link: Link) -> bool:
        """Whether a parent has one child at most."""
        return (link.child.table, link.child.column.lower()) in self._keys

    def _is_linking(self, table: Table) -> bool:
        links = [link for link in self.links if link.child.table == table.name]
        ends = {link.parent.table for link in links}
        return len(links) == len(ends) == 2 and len(table.columns) <= len(links) + OWN_COLUMNS


def _links(table: Table, schema: Schema) -> list[Link]:
    links = []
    for reference in table.references:
        target = schema.table(reference.table)
        if target is None or target.name == table.name or len(reference.columns) > 1:
            continue
        links.append(Link(_place(table, reference.columns[0]), _place(target, reference.keys[0])))
    return list(dict.fromkeys(links))


def _place(table: Table, column: str) -> Place:
    return Place(table.name, next(one.name for one in table.columns if one.name.lower() == column))
