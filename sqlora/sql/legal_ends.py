"""The shortest way to end a query that is being written, where no more than a few words may follow."""

from __future__ import annotations

import heapq
import itertools

from sqlora.sql.legal_places import Place
from sqlora.sql.legal_text import CLOSING, SqlGuard, State
from sqlora.sql.schema import quote_name

MOST_TRIED = 1000  # beginnings
WORDS = ("END", "THEN", "FROM", "JOIN", "SELECT", "BY", "USING", "AS", "OVER", "NULL", "AND", "WHEN", "IN")
NAMES = 4  # of each place
FAR = 3  # pieces that an open bracket, or a name without its table, costs about


def ending(guard: SqlGuard, state: State) -> str | None:
    """A short text after which the query may end; None if none was found."""
    order = itertools.count()
    heap = [(_distance(state), next(order), 0, "", state)]
    for _ in range(MOST_TRIED):
        if not heap:
            return None
        _, _, pieces, text, state = heapq.heappop(heap)
        if guard.may_end(state):
            return text
        for piece in _pieces(state):
            following = guard.after(state, piece)
            if following is not None:
                cost = pieces + 1 + _distance(following)
                heapq.heappush(heap, (cost, next(order), pieces + 1, text + piece, following))
    return None


def _distance(state: State) -> int:
    level, depth = state.place.level, 0
    while level.parent is not None:
        level, depth = level.parent, depth + 1
    query = state.place.level.query
    there = state.place.level.joined
    missing = sum(column not in there for _, column in query.wanted)
    return FAR * (depth + missing)


def _pieces(state: State) -> list[str]:
    """Texts that may go on: the rest of a word that has begun, or what a word begins with."""
    place, word = state.place, state.word
    if state.quote:
        names = [name[len(word) :] for name in place.names if name.startswith(word.lower())]
        return [*(rest + CLOSING[state.quote] for rest in sorted(names, key=len)[:NAMES]), CLOSING[state.quote]]
    if state.closed or not word:
        return _words(place, "" if place.before == "." else " ")
    known = [*place.names, *place.functions, *place.level.known.tables, *(one.alias for one in place.level.sources)]
    rests = [name[len(word) :] for name in known if name.startswith(word.lower())]
    rests += [keyword[len(word) :] for keyword in place.follow.keywords if keyword.startswith(word.upper())]
    return [*sorted(filter(None, rests), key=len)[: 2 * NAMES], " ", ".", ")", "0"]


def _words(place: Place, space: str) -> list[str]:
    names = sorted(place.names, key=len)
    if place.wants_table:
        wanted = {column for _, column in place.level.query.wanted}
        names = sorted(place.tables, key=lambda name: -len(wanted & place.tables[name]))
    words = [word for word in WORDS if word in place.follow.keywords]
    words += [quote_name(name) for name in names[:NAMES]]
    if place.wants_alias:
        words += sorted({owner for owner, _ in place.level.query.wanted} | {"t8", "t9"})
    if place.may_be_number:
        words.append("1")
    if place.is_free:
        words.append("x")
    return [space + word for word in words if word] + [")", "(", ",", "''"]
