"""Kinds of settings: which values are valid, and how a flag's text is parsed."""

import pytest

from sqlora.settings import kinds


@pytest.mark.parametrize(
    ("kind", "valid", "invalid"),
    [
        (kinds.whole(1), [1, kinds.LARGEST], [0, -1, True, 1.0, "1", kinds.LARGEST + 1, None]),
        (kinds.real("above 0", lambda v: v > 0), [1, 0.5], [0, True, float("inf"), float("nan"), "1", None]),
        (kinds.choice("auto", "cpu"), ["auto", "cpu"], ["", "CPU", None, ["cpu"]]),
        (kinds.SWITCH, [True, False], [1, 0, "True", None]),
        (kinds.PATH, ["a", "a b/c", "ü"], ["", "  ", "a\0b", "\ud800", None, 3]),
        (kinds.OPTIONAL_PATH, ["", "a"], ["a\0b", None]),
        (kinds.OPTIONAL_TEXT, ["", "How many?"], ["\udfff", None, 3]),
        (kinds.NAMES, [["a"], ["a", "b c"]], [[], [""], "a", ("a",), ["a", 3], None]),
        (kinds.OPTIONAL_NAMES, [[], ["a"]], [[""], "", None]),
        (kinds.SIZE, [0, 16 * 10**9], [-1, 1.5, "16GB", True, None]),
    ],
)
def test_valid_values(kind, valid, invalid):
    assert [value for value in valid if not kind.valid(value)] == []
    assert [value for value in invalid if kind.valid(value)] == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.whole(1), "12", 12),
        (kinds.real("any", lambda v: True), "3e-4", 3e-4),
        (kinds.NAMES, "q_proj, v_proj", ["q_proj", "v_proj"]),
        (kinds.PATH, " a ", " a "),
        (kinds.choice("auto"), "auto", "auto"),
        (kinds.SIZE, "16GB", 16_000_000_000),
        (kinds.SIZE, "15.6 gib", int(15.6 * (1 << 30))),
        (kinds.SIZE, "512MiB", 1 << 29),
        (kinds.SIZE, "9" * 400 + "GB", 1 << 62),
    ],
)
def test_a_flag_is_parsed(kind, text, value):
    assert kind.parse(text) == value


def test_only_paths_are_paths():
    assert kinds.PATH.is_path
    assert kinds.OPTIONAL_PATH.is_path
    assert not kinds.OPTIONAL_TEXT.is_path
