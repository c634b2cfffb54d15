"""`python -m sqlora.settings` prints docs/settings.md (`make docs`)."""

import re

from sqlora.settings.command_line import headings, shown_default
from sqlora.settings.kinds import SWITCH
from sqlora.settings.settings import SETTING_KINDS, flag


def settings_page() -> str:
    """The settings as Markdown: a table for each heading of config.py."""
    lines = [
        "# Settings",
        "",
        "Every constant of `config.py`, and its flag. `make docs` writes this page from config.py.",
        "",
    ]
    for heading in headings():
        lines += [
            f"## {heading.title}",
            "",
            f"Read by {' and '.join(f'`{script}`' for script in heading.scripts)}.",
            "",
            "| setting | takes | default | meaning |",
            "|---|---|---|---|",
        ]
        for name, text in heading.settings.items():
            kind, default = SETTING_KINDS[name], shown_default(name)
            takes = f"`{flag(name)}`, `--no-{flag(name)[2:]}`" if kind is SWITCH else f"`{flag(name)}` {kind.shown}"
            cells = (f"`{name}`", takes, f"`{default}`" if default else "", text)
            lines.append("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(settings_page(), end="")
