"""The question and the schema in texts that hold both, as prompts for chat and instruct models do."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Statements that make a schema, up to their bracket's end or their semicolon.
BEGINNING = re.compile(
    r"(?:^|(?<=[\s;`>:.])) *(CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+)?TABLE|ALTER\s+TABLE|INSERT\s+INTO|"
    r"CREATE\s+(?:UNIQUE\s+)?INDEX|CREATE\s+VIEW)\s",
    re.IGNORECASE,
)
FENCE = re.compile(r"```\w*\s*\n?(.*?)```", re.DOTALL)
# What a prompt writes before or after its parts, which is no part of them.
LABEL = re.compile(
    r"^[\s#*>\-]*(?:user\s+|the\s+)?(question|input|query|instruction|context|schema|database schema|tables?|response|"
    r"answer|sql(?: query)?|output|q)\s*(?::|\*\*:?|$)[\s*]*",
    re.IGNORECASE,
)


def question_and_schema(texts: list[str]) -> dict[str, str]:
    """The question of some texts, and the CREATE TABLE text in them as the context, if there is any.

    The question is what the last text says beside the schema; where that is nothing, what the one before says.
    """
    found: dict[str, str] = {}
    for text in reversed(texts):
        statements, before, after = split_schema(text)
        if statements and "context" not in found:
            found["context"] = statements
        if "question" not in found and (question := _question(after) or _question(before)):
            found["question"] = question
    return found


def split_schema(text: str) -> tuple[str, str, str]:
    """A schema's statements in a text, without INSERTs, and what is before the first and after the last of them."""
    spans = list(_statements(text))
    if not spans:
        return "", text, ""
    kept = [text[start:end].strip().rstrip(";") for start, end, is_row in spans if not is_row]
    return ";\n".join(kept), text[: spans[0][0]], text[spans[-1][1] :]


def without_fence(text: object) -> str | None:
    """A model's answer without the Markdown fence around its SQL; None if it is no text."""
    if not isinstance(text, str):
        return None
    fence = FENCE.search(text)
    return (fence[1] if fence else text).strip()


def _statements(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where each statement begins and ends, and whether it is an INSERT."""
    start = 0
    while begun := BEGINNING.search(text, start):
        word = begun[1].lower()
        end = _end(text, begun.start(1), closes=word.startswith("create") and word.endswith("table"))
        yield begun.start(1), end, word.startswith("insert")
        start = end


def _end(text: str, start: int, closes: bool) -> int:
    """Where the statement ends: behind its semicolon, or if it `closes`, behind its brackets; else at a blank line."""
    depth, quote = 0, ""
    for i in range(start, len(text)):
        character = text[i]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"`":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if closes and depth == 0:
                rest = re.compile(r"\s*;|[ \t]*(?:WITHOUT ROWID|STRICT)[ \t]*;?", re.IGNORECASE).match(text, i + 1)
                return rest.end() if rest else i + 1
        elif depth <= 0 and (character == ";" or (character == "\n" and text[i + 1 : i + 2] in ("\n", ""))):
            return i + 1
    return len(text)


def _question(text: str) -> str:
    """The last paragraph of a text that is more than labels, without them."""
    question = ""
    for block in re.split(
        r"\n\s*\n|\n(?=[\s#*]*(?:question|input)\b)", text.replace("```sql", "").replace("```", ""), flags=re.I
    ):
        lines = [line.strip(" \t#*>").removeprefix("--").strip() for line in block.splitlines()]
        lines = [stripped for line in lines if (stripped := LABEL.sub("", line.lstrip(" ,;:.-"), count=1).strip(" :"))]
        if lines:
            question = " ".join(lines)
    return question
