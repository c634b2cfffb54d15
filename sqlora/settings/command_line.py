"""Settings: the constants of config.py, checked, with the flags that stand for them.

A later layer wins: constants, `--preset`, `--from-run`, flags. Every layer goes through the same checks.
"""

import difflib
import io
import json
import re
import sys
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

import config
from sqlora.settings import database_settings
from sqlora.storage import checkpoints
from sqlora.storage.paths import expand, same
from sqlora.system.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What a setting takes: how a flag's text is read, which values are right, and how to say so."""

    wants: str
    valid: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    is_path: bool = False


LARGEST = (1 << 31) - 1  # no count is larger


def whole(least: int) -> Kind:
    return Kind(f"a whole number from {least} to {LARGEST}", lambda v: type(v) is int and least <= v <= LARGEST, int)


def real(wants: str, valid: Callable[[float], bool]) -> Kind:
    return Kind(wants, lambda v: type(v) in (int, float) and abs(v) <= sys.float_info.max and valid(v), float)


def choice(*names: str) -> Kind:
    return Kind("one of " + ", ".join(names), lambda v: v in names)


def is_text(value: Any) -> bool:
    return type(value) is str and not re.search("[\0\ud800-\udfff]", value)  # which no file name and no terminal takes


SWITCH = Kind("True or False", lambda v: type(v) is bool, {"true": True, "false": False}.__getitem__)
TEXT = Kind("a non-empty text of whole characters", lambda v: is_text(v) and bool(v.strip()))
OPTIONAL_TEXT = Kind("a text of whole characters", is_text)
PATH, OPTIONAL_PATH = replace(TEXT, is_path=True), replace(OPTIONAL_TEXT, is_path=True)  # or a hub id, a URL, a schema's text
NAMES = Kind(
    "a list of names, with commas between them on the command line",
    lambda v: type(v) is list and bool(v) and all(is_text(name) and name for name in v),
    lambda text: [name.strip() for name in text.split(",")],
)
OPTIONAL_NAMES = Kind(NAMES.wants, lambda v: v == [] or NAMES.valid(v), NAMES.parse)

REQUIREMENTS = {"bitsandbytes": "requirements.txt", "bigdl": "requirements-bigdl.txt"}  # by BACKEND
KINDS: dict[str, Kind] = {
    "BASE_MODEL": PATH,
    "DATA_PATH": PATH,
    "STREAMING": SWITCH,
    "SHUFFLE_BUFFER": whole(1),
    "EXTRA_DATA": OPTIONAL_PATH,
    "EXTRA_WEIGHT": whole(1),
    "TEST_DATA": PATH,
    "CHECKPOINT_DIR": PATH,
    "MODEL_PATH": PATH,
    "LORA_CHECKPOINT": PATH,
    "DEVICE": choice("auto", "xpu", "cuda", "cpu"),
    "DTYPE": choice("auto", "bfloat16", "float16", "float32"),
    "BACKEND": choice(*REQUIREMENTS),
    "LOW_BIT": choice("nf4", "fp4", "none", "sym_int4", "asym_int4", "sym_int5", "asym_int5", "sym_int8"),
    "MAX_STEPS": whole(1),
    "BATCH_SIZE": whole(1),
    "GRADIENT_ACCUMULATION_STEPS": whole(1),
    "LEARNING_RATE": real("a number above 0 and at most 1", lambda v: 0 < v <= 1),
    "WARMUP_STEPS": whole(0),
    "MAX_GRAD_NORM": real("a number above 0", lambda v: v > 0),
    "LORA_R": whole(1),
    "LORA_ALPHA": real("a number above 0", lambda v: v > 0),
    "LORA_DROPOUT": real("a number from 0 to below 1", lambda v: 0 <= v < 1),
    "LORA_TARGETS": NAMES,
    "GRADIENT_CHECKPOINTING": SWITCH,
    "PACKING": choice("auto", "tree", "prefix", "off"),
    "COMPILE": choice("auto", "on", "off"),
    "MAX_TOKENS_PER_PASS": whole(0),
    "PROMPT_ORDER": choice("question_first", "schema_first"),
    "TRAIN_ON_INPUTS": SWITCH,
    "MAX_LENGTH": whole(8),
    "LONG_ROWS": choice("drop", "raise"),
    "CHECK_DATA": choice("off", "warn", "drop", "fix"),
    "VALIDATION_ROWS": whole(1),
    "HOLDOUT": OPTIONAL_PATH,
    "LOGGING_STEPS": whole(1),
    "EVAL_STEPS": whole(1),
    "SAVE_STEPS": whole(1),
    "SAVE_TOTAL_LIMIT": whole(1),
    "SEED": whole(0),
    "RESUME": SWITCH,
    "ESTIMATE": SWITCH,
    "REPORT_TO": choice("none", "tensorboard", "wandb", "trackio"),
    "MODEL": choice("base", "adapter", "both"),
    "MAX_NEW_TOKENS": whole(1),
    "GENERATION_BATCH_SIZE": whole(0),
    "MERGE_FOR_GENERATION": choice("auto", "on", "off"),
    "NUM_BEAMS": whole(1),
    "NUM_CANDIDATES": whole(1),
    "TEMPERATURE": real("a number above 0 and at most 2", lambda v: 0 < v <= 2),
    "REPETITION_PENALTY": real("a number above 0", lambda v: v > 0),
    "QUESTION": OPTIONAL_TEXT,
    "CONTEXT": OPTIONAL_PATH,
    "OUTPUT": OPTIONAL_PATH,
    "EVALUATE": SWITCH,
    "DATABASE": OPTIONAL_PATH,
    "QUESTIONS": OPTIONAL_PATH,
    "TABLES": OPTIONAL_NAMES,
    "EXECUTE": SWITCH,
    "FORMAT": choice("table", "csv", "json"),
    "QUERY_SECONDS": real("a number above 0 and at most 86400", lambda v: 0 < v <= 86400),
    "INTERACTIVE": SWITCH,
    "SAVE_FEEDBACK": OPTIONAL_PATH,
}
# What is a path is read, in training or to be answered, or written; LORA_CHECKPOINT may be in a folder that is written to.
TRAINED_ON = ("BASE_MODEL", "DATA_PATH", "EXTRA_DATA", "HOLDOUT")
ANSWERED = ("BASE_MODEL", "TEST_DATA", "QUESTIONS", "CONTEXT", "DATABASE")
WRITTEN = ("CHECKPOINT_DIR", "MODEL_PATH", "OUTPUT", "SAVE_FEEDBACK")
SECRET = {"DATABASE"}  # a URL may hold a password: it is never shown or written down
NOT_SETTINGS = {"DEMO", "PRESETS"}
# What a run cannot change when it is resumed, since it says which rows train with which gradients.
FIXED = {"BASE_MODEL", "DATA_PATH", "STREAMING", "SHUFFLE_BUFFER", "EXTRA_DATA", "EXTRA_WEIGHT", "DTYPE", "LOW_BIT", "BATCH_SIZE",
         "GRADIENT_ACCUMULATION_STEPS", "LEARNING_RATE", "WARMUP_STEPS", "MAX_GRAD_NORM", "LORA_R", "LORA_ALPHA",
         "LORA_DROPOUT", "LORA_TARGETS", "PACKING", "PROMPT_ORDER", "TRAIN_ON_INPUTS", "MAX_LENGTH", "LONG_ROWS", "CHECK_DATA",
         "VALIDATION_ROWS", "HOLDOUT", "SEED"}
# What --from-run takes of a run, which may be a stranger's: how to prompt and train, and not what to ask or where to write.
FROM_RUN = FIXED | {"BACKEND", "MAX_STEPS", "GRADIENT_CHECKPOINTING", "COMPILE", "MAX_TOKENS_PER_PASS", "LOGGING_STEPS",
                    "EVAL_STEPS", "SAVE_STEPS", "SAVE_TOTAL_LIMIT"}
RESUMED = FROM_RUN | {"MODEL_PATH", "DEVICE", "REPORT_TO"}  # what a run that goes on takes of itself


class Settings:
    """The resolved settings, read-only, under the names of config.py: `settings.BATCH_SIZE`.

    Raises UserError for an unknown name, a wrong value, or a combination that cannot work.
    """

    def __init__(self, values: Mapping[str, Any]):
        for name, value in values.items():
            _check(name, value)
        self.__dict__.update(_expanded(values))
        _check_combinations(self)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings are read-only; {name} was to become {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """What may be written down: all but SECRET settings."""
        return {name: value for name, value in self.__dict__.items() if name not in SECRET}


def load_settings(arguments: list[str] | None, about: str, trains: bool = True) -> Settings:
    """Settings from config.py and the command line (`arguments`, or sys.argv); `about` heads the help page.

    With RESUME, for what `trains`, they are those of the run that goes on. Raises UserError. `--help` prints and exits with 0.
    """
    values = constants()
    command = click.Command("", params=_options(), help=about, callback=lambda **flags: flags)
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
        values |= config.PRESETS[preset]
    if run:
        values |= run_settings(Path(expand(run, "--from-run")), FROM_RUN)
    given = {name: _parse(name, text) for name, text in flags.items() if text is not None}
    values |= given
    return Settings(_resumed(values, given) if values["RESUME"] is True and trains else values)


def _resumed(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run in CHECKPOINT_DIR, with the flags that may change. Raises UserError for one that may not."""
    values, given = _expanded(values), _expanded(given)
    run = Path(str(values["CHECKPOINT_DIR"]))
    checkpoint = checkpoints.newest(run)
    if checkpoint is None:
        raise UserError(f"RESUME (--resume) is set, and CHECKPOINT_DIR (--checkpoint-dir) {str(run)!r} has no whole checkpoint; "
                        f"name the run's folder, or begin without --resume")
    saved = _expanded(values | run_settings(checkpoint, RESUMED))  # a setting that is newer than the run has today's value
    for name in FIXED & given.keys():
        if given[name] != saved[name]:
            raise UserError(f"{name} ({flag(name)}) is {given[name]!r}, and the run in {str(run)!r} has {saved[name]!r}; leave "
                            f"the flag out, or begin anew without --resume")
    return saved | given | {name: values[name] for name in ("RESUME", "CHECKPOINT_DIR", "ESTIMATE")}


def constants() -> dict[str, Any]:
    """The constants of config.py as they stand. Raises UserError if one is unknown or missing."""
    found = {name: value for name, value in vars(config).items() if name.isupper() and name not in NOT_SETTINGS}
    for name in found.keys() - KINDS.keys():
        raise _unknown(name)
    for name in KINDS.keys() - found.keys():
        raise UserError(f"config.py lacks {name}; it takes {KINDS[name].wants}")
    return found


def run_settings(path: Path, wanted: set[str]) -> dict[str, Any]:
    """Those `wanted` of the settings of a run: its sqlora.json, or the folder that holds it. Raises UserError."""
    path = path / "sqlora.json" if path.is_dir() else path
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if not isinstance(saved, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--from-run {path}: no settings of a run are there ({type(error).__name__}); "
                        f"name a folder with a sqlora.json, such as {config.MODEL_PATH}") from None
    for name in sorted(saved.keys() - KINDS.keys()):
        raise _unknown(name)
    return {name: saved[name] for name in wanted & saved.keys()}


def _expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every ~ of a path written out. Raises UserError for one of an unknown user."""
    paths = [name for name, value in values.items() if name in KINDS and KINDS[name].is_path and isinstance(value, str)]
    return {**values, **{name: expand(values[name], f"{name} ({flag(name)})") for name in paths}}


def flag(name: str) -> str:
    """BATCH_SIZE -> --batch-size"""
    return "--" + name.lower().replace("_", "-")


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Option(["--preset"], type=click.Choice(list(config.PRESETS)), help="settings for a purpose; tiny: the demo"),
        click.Option(["--from-run"], metavar="PATH", help="prompt and train as a finished run did, by its sqlora.json"),
    ]
    for name, text in _descriptions().items():
        default = getattr(config, name)
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        text = f"{text}  [{shown}]" if shown != "" and name not in SECRET else text
        if KINDS[name] is SWITCH:
            declaration = f"{flag(name)}/--no-{flag(name)[2:]}"
            options.append(click.Option([declaration, name], default=None, help=text))
        else:
            options.append(click.Option([flag(name), name], metavar="VALUE", help=text))
    return options


def _descriptions() -> dict[str, str]:
    """The comment behind each constant of config.py, which is its documentation."""
    source = Path(config.__file__).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    first_words: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.start[1] == 0:
            first_words[token.start[0]] = token.string
        elif token.type == tokenize.COMMENT and first_words.get(token.start[0]) in KINDS:
            found[first_words[token.start[0]]] = token.string.lstrip("# ")
    return {name: found.get(name, "") for name in KINDS}


def _parse(name: str, text: Any) -> Any:
    if not isinstance(text, str):
        return text  # a switch
    try:
        return KINDS[name].parse(text)
    except (ValueError, KeyError):
        return text  # which the check refuses, with the reason


def _check(name: str, value: Any) -> None:
    if name not in KINDS:
        raise _unknown(name)
    if not KINDS[name].valid(value):
        shown = "not shown" if name in SECRET else repr(value)
        raise UserError(f"{name} ({flag(name)}) is {shown}; it must be {KINDS[name].wants}")


def _unknown(name: str) -> UserError:
    near = difflib.get_close_matches(name, KINDS, n=1)
    return UserError(f"unknown setting {name}; {f'did you mean {near[0]}?' if near else 'config.py lists the settings'}")


def _check_combinations(s: Settings) -> None:
    if s.SAVE_STEPS % s.EVAL_STEPS:
        raise UserError(
            f"SAVE_STEPS (--save-steps) is {s.SAVE_STEPS} and EVAL_STEPS (--eval-steps) is {s.EVAL_STEPS}; SAVE_STEPS must "
            f"be a multiple of EVAL_STEPS, since the best checkpoint is chosen by its evaluation"
        )
    if same(s.CHECKPOINT_DIR, s.MODEL_PATH):
        raise UserError(f"CHECKPOINT_DIR and MODEL_PATH (--model-path) are both {s.MODEL_PATH!r}; give them two folders")
    if s.STREAMING and (s.EXTRA_DATA or s.BACKEND == "bigdl"):
        other = "EXTRA_DATA (--extra-data)" if s.EXTRA_DATA else "BACKEND (--backend) bigdl"
        raise UserError(f"STREAMING (--streaming) does not go together with {other}; leave one out")
    if 1 < s.NUM_BEAMS < s.NUM_CANDIDATES:
        raise UserError(f"NUM_CANDIDATES (--num-candidates) is {s.NUM_CANDIDATES} and NUM_BEAMS (--num-beams) is {s.NUM_BEAMS}; "
                        f"take as many beams at least, or 1 beam to sample the candidates")
    database_settings.check(s)
