"""Which text may continue a query over a schema, as SQLite reads it: from left to right, as it is written.

What is named is in the schema, and words stand in the order of one SELECT; literals and aliases are free. Not seen are
columns that a sub-query gives under a name of its own, where they are named before it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sqlora.sql.legal_places import Place
from sqlora.sql.legal_scopes import Level, Names, Scope
from sqlora.sql.schema import Schema

PART = re.compile(r"[\w$]+|.", re.DOTALL)
SPACES = " \t\n\r\f"  # as SQLite has them
CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]"}


class State(NamedTuple):
    """Where the text stands: at a place between two words, in a word that began there, in quotes, or just behind
    `closed` ones.
    """

    place: Place
    word: str = ""
    quote: str = ""
    closed: str = ""
    is_over: bool = False  # behind its semicolon


class SqlGuard:
    """The rules for one schema.

    guard = SqlGuard(parse_schema(context))
    state = guard.after(guard.start, "SELECT na")   # None if no legal query begins so
    guard.may_end(state)
    """

    def __init__(self, schema: Schema, strict: bool = False) -> None:
        self.start = State(Place("", Level(Names(schema, strict), scope=Scope())))

    def after(self, state: State, text: str) -> State | None:
        """The state after further text; None if nothing legal begins so."""
        for part in PART.findall(text):
            stepped = _step(state, part)
            if stepped is None:
                return None
            state = stepped
        return state if _may_go_on(state) else None

    def may_end(self, state: State) -> bool:
        """Whether the text so far is a whole query."""
        if state.quote:
            return False
        if state.is_over:
            return True
        ended = _finish(state, " ")
        return ended is not None and ended.may_end


def _step(state: State, char: str) -> State | None:
    """The state after a part of PART: a run of letters and digits, or another character."""
    place, word, quote, closed, is_over = state
    if char == "\0":  # which SQLite reads as the text's end
        return None
    if quote:
        return State(place, word, "", quote) if char == CLOSING[quote] else State(place, word + char, quote)
    if is_over:
        return state if char in SPACES else None
    if len(char) > 1 or char.isalnum() or char in "_$" or (char == "." and word[:1].isdigit()):
        # What is named is in ASCII, and so are words and digits; other letters may be in a name that is free.
        return State(place, word + char) if not closed and (char.isascii() or place.is_free) else None
    if closed and char == closed == CLOSING[closed]:
        return State(place, word + char, closed)  # doubled, it stands for itself
    ended = _finish(state, char)
    if ended is None:
        return None
    if char in SPACES:
        behind = ended.space()
    elif char in CLOSING:
        return State(ended, quote=char)
    elif char == ".":
        return State(ended) if ended.before == "." and (word or closed) else None
    elif char == ";":
        return State(ended, is_over=True) if ended.may_end else None
    else:
        behind = _sign(ended, char)
    return State(behind) if behind is not None else None


def _sign(place: Place, char: str) -> Place | None:
    """The place behind a bracket, a comma or an operator."""
    if char == "(":
        return place.open()
    if char == ")":
        return place.close()
    return place.comma() if char == "," else place.operator(char)


def _finish(state: State, char: str) -> Place | None:
    """The place once the word before `char` is complete."""
    place, word = state.place, _folded(state.word)
    if state.closed:
        is_qualifier = char == "." and state.closed != "'" and not place.is_free
        return place.qualify(word) if is_qualifier else place.quoted(state.closed, word)
    if not word:
        return place
    if word[0].isdigit():
        return place.number(word)
    return place.qualify(word) if char == "." and not place.is_free else place.word(word, char == "(")


def _folded(word: str) -> str:
    """The word in lower case, as SQLite has it, which folds ASCII alone."""
    return word.lower() if word.isascii() else word


def _may_go_on(state: State) -> bool:
    """Whether the unfinished word, or quoted name, is the beginning of one that may stand here."""
    word = _folded(state.word)
    if state.closed:
        return any(_finish(state, char) is not None for char in " .")
    if state.quote:
        return state.place.begins_quoted(state.quote, word)
    if not word:
        return True
    if word[0].isdigit():
        return state.place.begins_number(word)
    return state.place.begins(word)
