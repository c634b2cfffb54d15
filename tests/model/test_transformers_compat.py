"""The version of transformers is asked about in one module only."""

import re
from pathlib import Path

import sqlora
from sqlora.model import transformers_compat

ROOT = Path(sqlora.__path__[0])


def test_only_the_models_package_asks_for_the_version():
    asking = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.rglob("*.py")
        if re.search(r"\bLEGACY\b|transformers\.__version__", file.read_text())
    }
    assert "model/transformers_compat.py" in asking
    assert {path.partition("/")[0] for path in asking} == {"model"}


def test_every_name_is_there():
    for name in transformers_compat.__all__:
        assert getattr(transformers_compat, name) is not None
