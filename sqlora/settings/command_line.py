"""The settings from their layers: config.py's constants, `--preset`, `--from-run`, flags; a later layer wins.

config.py documents each setting, in the comment behind it and the headings above; --help and docs/settings.md are made
of them.
"""

import io
import json
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import config
from sqlora.settings.kinds import SWITCH
from sqlora.settings.settings import (
    FIXED,
    FROM_RUN,
    RESUMED,
    SECRET,
    SETTING_KINDS,
    Settings,
    check_names,
    expanded,
    flag,
    setting_and_flag,
)
from sqlora.storage import checkpoints
from sqlora.storage.paths import expand
from sqlora.system.errors import UserError

NOT_SETTINGS = {"DEMO", "PRESETS"}


@dataclass(frozen=True)
class Heading:
    """A heading of config.py, the scripts that read its settings, and what each of them means."""

    title: str
    scripts: tuple[str, ...]
    settings: dict[str, str]


def load_settings(arguments: list[str] | None, about: str, script: str = "", trains: bool = True) -> Settings:
    """The settings from config.py and the command line (`arguments`, or sys.argv).

    `about` heads the help page, which lists what `script` reads, or all. With RESUME, for what `trains`, the settings
    are those of the run that is resumed. Raises UserError. `--help` prints and exits with 0.
    """
    values = constants()
    command = _Command(
        "", params=_options(), help=about, callback=lambda **flags: flags, context_settings={"max_content_width": 120}
    )
    command.script = script
    try:
        flags = command.main(args=arguments, standalone_mode=False)
    except click.UsageError as error:
        raise UserError(f"{error.format_message()} (--help lists the flags)") from None
    except click.Abort:
        raise KeyboardInterrupt from None
    if not isinstance(flags, dict):
        raise SystemExit(flags)  # --help
    preset, run = flags.pop("preset"), flags.pop("from_run")
    if preset:
        values |= presets()[preset]
    if run:
        values |= run_settings(Path(expand(run, "--from-run")), FROM_RUN)
    given = {name: _parse(name, text) for name, text in flags.items() if text is not None}
    values |= given
    return Settings(**(_resumed(values, given) if values["RESUME"] is True and trains else values))


def constants() -> dict[str, Any]:
    """The constants of config.py as they are now. Raises UserError if one is unknown or missing."""
    values = {name: value for name, value in vars(config).items() if name.isupper() and name not in NOT_SETTINGS}
    check_names(values)
    for name in SETTING_KINDS.keys() - values.keys():
        raise UserError(f"config.py lacks {name}; it takes {SETTING_KINDS[name].wants}")
    return values


def presets() -> dict[str, dict[str, Any]]:
    """The presets of config.py. Raises UserError for one that is no dict of settings."""
    named = getattr(config, "PRESETS", None)
    if not isinstance(named, dict) or not all(isinstance(preset, dict) for preset in named.values()):
        raise UserError("PRESETS of config.py must be a dict that has a dict of settings for each name")
    for preset in named.values():
        check_names(preset)
    return named


def run_settings(path: Path, wanted: set[str]) -> dict[str, Any]:
    """Those `wanted` of a run's settings, from its sqlora.json or the folder that holds it. Raises UserError."""
    path = path / "sqlora.json" if path.is_dir() else path
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if not isinstance(saved, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--from-run {path}: no settings of a run are there ({type(error).__name__}); "
            f"name a folder with a sqlora.json, such as {config.MODEL_PATH}"
        ) from None
    check_names(saved)
    return {name: saved[name] for name in wanted & saved.keys()}


def headings() -> list[Heading]:
    """The headings of config.py with their settings, in its order; a setting before any heading is every script's."""
    listed = [Heading("Settings", (), {})]
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(Path(config.__file__).read_text(encoding="utf-8")).readline):
        if token.start[1] == 0:
            name = token.string if token.type == tokenize.NAME and token.string in SETTING_KINDS else ""
            if heading := re.fullmatch(r"# ([^(]+?) \(([^;)]+).*\)\.", token.string):
                listed.append(Heading(heading[1], tuple(heading[2].split(", ")), {}))
            elif name:
                listed[-1].settings[name] = ""
        elif token.type == tokenize.COMMENT and name:
            listed[-1].settings[name] = token.string.lstrip("# ")
        elif token.type == tokenize.NEWLINE:
            name = ""
    return [heading for heading in listed if heading.settings]


def _resumed(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run in CHECKPOINT_DIR, with the flags that may change. Raises UserError for one that may
    not.
    """
    values, given = expanded(values), expanded(given)
    run = Path(str(values["CHECKPOINT_DIR"]))
    checkpoint = checkpoints.newest(run)
    if checkpoint is None:
        raise UserError(
            f"RESUME (--resume) is set, and CHECKPOINT_DIR (--checkpoint-dir) {str(run)!r} has no whole checkpoint; "
            f"name the run's folder, or start without --resume"
        )
    # a setting that is newer than the run has today's value
    saved = expanded(values | run_settings(checkpoint, RESUMED))
    for name in FIXED & given.keys():
        if given[name] != saved[name]:
            raise UserError(
                f"{setting_and_flag(name)} is {given[name]!r}, and the run in {str(run)!r} has {saved[name]!r}; leave "
                f"the flag out, or start anew without --resume"
            )
    return saved | given | {name: values[name] for name in ("RESUME", "CHECKPOINT_DIR", "ESTIMATE")}


class _Command(click.Command):
    """Lists the flags under the headings of config.py, and of them those that the script reads."""

    script = ""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        records = {
            option.name: record for option in self.get_params(context) if (record := option.get_help_record(context))
        }
        listed = [heading for heading in headings() if not heading.scripts or self.script in ("", *heading.scripts)]
        with formatter.section("Options"):
            formatter.write_dl([record for name, record in records.items() if name not in SETTING_KINDS])
        for heading in listed:
            with formatter.section(heading.title):
                formatter.write_dl([records[name] for name in heading.settings])


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Option(["--preset"], type=click.Choice(list(presets())), help="settings for a purpose; tiny: the demo"),
        click.Option(["--from-run"], metavar="PATH", help="prompt and train as a finished run did, by its sqlora.json"),
    ]
    meanings = {name: text for heading in headings() for name, text in heading.settings.items()}
    for name, kind in SETTING_KINDS.items():
        text = meanings.get(name, "") + (f"  [{default}]" if (default := shown_default(name)) else "")
        if kind is SWITCH:
            options.append(click.Option([f"{flag(name)}/--no-{flag(name)[2:]}", name], default=None, help=text))
        else:
            options.append(click.Option([flag(name), name], metavar=kind.shown, help=text))
    return options


def shown_default(name: str) -> str:
    """The constant of config.py as a flag would give it; empty for a SECRET one."""
    default = getattr(config, name)
    return "" if name in SECRET else ",".join(map(str, default)) if isinstance(default, list) else str(default)


def _parse(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text  # a switch
    try:
        return SETTING_KINDS[name].parse(text)
    except (ValueError, KeyError):
        return text  # which Settings refuses, with the reason
