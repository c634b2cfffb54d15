"""docs/settings.md is what config.py says now."""

from pathlib import Path

from sqlora.settings import settings
from sqlora.settings.__main__ import settings_page

PAGE = Path(__file__).parents[2] / "docs/settings.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "make docs writes it anew"


def test_the_page_has_every_setting_once():
    assert all(settings_page().count(f"| `{name}` |") == 1 for name in settings.SETTING_KINDS)
