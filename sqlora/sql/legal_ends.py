"""A short way to end a query that is being written, where no more than a few words may follow."""

from __future__ import annotations

import heapq
import itertools

from sqlora.sql.legal_places import Place
from sqlora.sql.legal_scopes import Level
from sqlora.sql.legal_text import CLOSING, SqlGuard, State
from sqlora.sql.schema import quote_name

MOST_TRIED = 4000  # beginnings
WORDS = "NOCASE END THEN FROM JOIN NATURAL SELECT BY USING AS OVER NULL AND WHEN IN".split()
NAMES = 4  # of each place
FAR = 4  # pieces that an open bracket, or a name without its table, costs about, rather too many
INSIDE = {"case": 3 * FAR, "when": 2 * FAR, "between": 2 * FAR}  # and what else is open


def ending(guard: SqlGuard, state: State) -> str | None:
    """A short text after which the query may end; None if none was found."""
    order = itertools.count()
    heap = [(distance(state), next(order), 0, "", state)]
    for _ in range(MOST_TRIED):
        if not heap:
            return None
        _, _, pieces, text, state = heapq.heappop(heap)
        if guard.may_end(state):
            return text
        for piece in _pieces(state):
            following = guard.after(state, piece)
            if following is not None:
                cost = pieces + 1 + distance(following)
                heapq.heappush(heap, (cost, next(order), pieces + 1, text + piece, following))
    return None


def distance(state: State) -> int:
    """About the pieces that are needed, rather too many, so that what is nearer to an end is tried first."""
    level: Level | None = state.place.level
    far = 0
    while level is not None:
        due = min(level.function.counts) - level.arguments if level.function else 0
        if level.scope is not None:
            due = len(level.missing) + max(level.scope.due - level.scope.width, 0)
        far += FAR * max(due, 0) + (INSIDE.get(level.kind, FAR) if level.parent else 0)
        level = level.parent
    return far


def _pieces(state: State) -> list[str]:
    """Texts that may go on: the rest of a word that has begun, or what a word begins with."""
    place, word = state.place, state.word
    if state.quote:
        names = [name[len(word) :] for name in place.names if name.startswith(word.lower())]
        return [*(rest + CLOSING[state.quote] for rest in sorted(names, key=len)[:NAMES]), CLOSING[state.quote]]
    if state.closed:
        return [" ", ".", ")", ","]
    if not word:
        return _words(place, "" if place.before == "." else " ")
    known = [*place.names, *place.functions, *place.level.known.tables, *(one.alias for one in place.level.sources)]
    rests = [name[len(word) :] for name in known if name.startswith(word.lower())]
    rests += [keyword[len(word) :] for keyword in place.follow.keywords if keyword.startswith(word.upper())]
    return [*sorted(filter(None, rests), key=len)[: 2 * NAMES], " ", ".", ")", "0"]


def _words(place: Place, space: str) -> list[str]:
    if place.wants_operand and "NULL" in place.follow.keywords and place.before != "(":
        return [space + "NULL"]
    names = _tables(place) if place.wants_table else sorted(place.names, key=len)[:NAMES]
    words = [word for word in WORDS if word in place.follow.keywords]
    words += map(quote_name, names)
    if place.wants_alias:
        words += [*sorted({owner for owner, _ in place.level.missing}), "t8", "t9"]
    if place.wants_number:
        words.append("1")
    if place.is_free:
        words.append("x")
    return [*(space + word for word in words if word), ")", ",", *(() if place.wants_table else ("(",))]


def _tables(place: Place) -> list[str]:
    """For each qualifier that is missing the tables that have most of its columns; any tables if none is."""
    found = []
    for owner in sorted({owner for owner, _ in place.level.missing}) or [""]:
        asked = {column for one, column in place.level.missing if one == owner}
        found += sorted(place.tables, key=lambda name: -len(asked & place.tables[name]))[: NAMES // 2]
    return list(dict.fromkeys(found))
