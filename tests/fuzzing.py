"""Fuzzing: inputs drawn by hypothesis, of which each must be taken or refused in one clear line.

As a test the draws are few and always the same. FUZZ_SECONDS=900 pytest tests/test_fuzz_data.py draws anew for that
long in each test; -s shows how many were taken and how many refused. What it finds belongs into the test file of its
room.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sqlora.system.errors import FIXABLE, UserError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
LONGEST = 1000  # characters of an error that can still be read

# Text as people and programs get it wrong: any character, and above all those that mean something to somebody.
tricky = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "\n",
        "\r\n",
        "\u2028",
        "'",
        '"',
        ",",
        "\\",
        "{",
        "[]",
        "NaN",
        "null",
        "None",
        "0",
        "-1",
        "1e999",
        "9" * 5000,
        "é",
        "🙂",
        "\ud800",
        "\ufeff",
        "../..",
        "~nobody/x",
        "x" * 5000,
        "%s",
        "\x1b[31m",
    ]
)
texts = st.one_of(tricky, st.text(max_size=20), st.lists(tricky, max_size=3).map("".join))
huge = st.sampled_from([10**400, -(10**400), 1 << 63])
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, huge)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def fuzz(check: Callable, *strategies: st.SearchStrategy, examples: int) -> Counter:
    """Calls `check` with what the strategies give, and counts its calls as taken, or refused where it raises
    UserError.
    """
    counts = Counter()

    def call(drawn):
        message = "nothing"
        try:
            check(*drawn)
        except UserError as error:
            counts["refused"] += 1
            message = str(error)
        except OSError as error:
            if error.errno not in FIXABLE:
                raise
            counts["refused"] += 1
        else:
            counts["taken"] += 1
        assert message.isprintable()
        assert 0 < len(message) <= LONGEST

    def run(**options):
        test = given(st.tuples(*strategies))(lambda drawn: call(drawn))
        settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **options)(test)()

    if not SECONDS:
        # Not shrunk, since that would take longer than the test; the long mode does.
        run(derandomize=True, max_examples=examples, phases=[Phase.generate])
        return counts
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        run(max_examples=100)
    print(f"\n{os.environ['PYTEST_CURRENT_TEST']}: {counts.total()} tried: {dict(counts)}")
    return counts


def fingerprints(*paths: Path) -> dict[Path, str]:
    """The hash of every file at or below `paths`."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """`content` cut short, with bytes that are others, or with a part that is gone, doubled or not its own."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        kind = draw(st.sampled_from(["cut", "flip", "gone", "doubled", "other"]))
        if kind == "cut":
            content = content[:start]
        elif kind == "flip":
            content = (
                content[:start]
                + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[start:end])
                + content[end:]
            )
        elif kind == "gone":
            content = content[:start] + content[end:]
        elif kind == "doubled":
            content = content[:end] + content[start:]
        else:
            content = content[:start] + draw(st.binary(max_size=20)) + content[end:]
    return content
