"""The settings of a run: a frozen dataclass with the names of config.py, their types, and what goes together."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

from sqlora.settings.kinds import (
    NAMES,
    OPTIONAL_NAMES,
    OPTIONAL_PATH,
    OPTIONAL_TEXT,
    PATH,
    SIZE,
    SWITCH,
    Kind,
    choice,
    real,
    whole,
)
from sqlora.sql.dialects import DIALECTS
from sqlora.sql.schema import STYLES
from sqlora.storage.paths import expand, same
from sqlora.system.errors import UserError

REQUIREMENTS = {"bitsandbytes": "requirements.txt", "bigdl": "requirements/bigdl.txt"}  # by BACKEND

# What is a path is read, in training or for answers, or written; LORA_CHECKPOINT may be in a folder that is written to.
TRAINED_ON = ("BASE_MODEL", "START_FROM", "DATA_PATH", "EXTRA_DATA", "HOLDOUT", "DATABASE_FOLDER")
ANSWERED = ("BASE_MODEL", "TEST_DATA", "QUESTIONS", "CONTEXT", "DATABASE", "DATABASE_FOLDER")
WRITTEN = ("CHECKPOINT_DIR", "MODEL_PATH", "OUTPUT", "SAVE_FEEDBACK")
SECRET = {"DATABASE"}  # a URL may hold a password: it is never shown or written to a file
# What a run cannot change when it is resumed, since it decides which rows train with which gradients.
FIXED = {
    "BASE_MODEL",
    "DATA_PATH",
    "STREAMING",
    "SHUFFLE_BUFFER",
    "EXTRA_DATA",
    "EXTRA_WEIGHT",
    "COLUMNS",
    "SQL_DIALECT",
    "DATABASE_FOLDER",
    "DTYPE",
    "LOW_BIT",
    "BATCH_SIZE",
    "GRADIENT_ACCUMULATION_STEPS",
    "LEARNING_RATE",
    "WARMUP_STEPS",
    "BEST_BY",
    "START_FROM",
    "MAX_GRAD_NORM",
    "LORA_R",
    "LORA_ALPHA",
    "LORA_DROPOUT",
    "LORA_TARGETS",
    "PACKING",
    "PROMPT_ORDER",
    "PROMPT_FORMAT",
    "SCHEMA_STYLE",
    "SCHEMA_HIDE",
    "TRAIN_ON_INPUTS",
    "MAX_LENGTH",
    "LONG_ROWS",
    "CHECK_DATA",
    "TABLE_ALIASES",
    "RENAMED_COPIES",
    "VALIDATION_ROWS",
    "HOLDOUT",
    "SEED",
}
# What --from-run takes from a run, which may be a stranger's: how to prompt and train, but not what to ask or where to
# write.
FROM_RUN = FIXED | {
    "BACKEND",
    "MAX_STEPS",
    "GRADIENT_CHECKPOINTING",
    "COMPILE",
    "MAX_TOKENS_PER_PASS",
    "LOGGING_STEPS",
    "EVAL_STEPS",
    "EARLY_STOPPING",
    "SAVE_STEPS",
    "SAVE_TOTAL_LIMIT",
}
RESUMED = FROM_RUN | {"MODEL_PATH", "DEVICE", "REPORT_TO"}  # what a resumed run takes from itself
ASKS = ("QUESTION", "QUESTIONS", "INTERACTIVE")  # the ways to ask a DATABASE
NEED_DATABASE = ("QUESTIONS", "SCHEMAS", "TABLES", "EXECUTE", "INTERACTIVE", "SAVE_FEEDBACK")


@dataclass(frozen=True)
class Settings:
    """The resolved settings, read-only, under the names of config.py, which says what each means:
    `settings.BATCH_SIZE`.

    A new setting is a line here, with its kind, and one in config.py, with its default and its documentation.
    Raises UserError for a wrong value, or for a combination that cannot work.
    """

    BASE_MODEL: Annotated[str, PATH]
    CHECKPOINT_DIR: Annotated[str, PATH]
    MODEL_PATH: Annotated[str, PATH]
    PROMPT_ORDER: Annotated[str, choice("question_first", "schema_first")]
    PROMPT_FORMAT: Annotated[str, choice("plain", "chat")]
    SCHEMA_STYLE: Annotated[str, choice("auto", *STYLES)]
    SCHEMA_HIDE: Annotated[list[str], OPTIONAL_NAMES]
    SEED: Annotated[int, whole(0)]
    RESUME: Annotated[bool, SWITCH]

    DEVICE: Annotated[str, choice("auto", "xpu", "cuda", "cpu")]
    DTYPE: Annotated[str, choice("auto", "bfloat16", "float16", "float32")]
    BACKEND: Annotated[str, choice(*REQUIREMENTS)]
    LOW_BIT: Annotated[str, choice("nf4", "fp4", "none", "sym_int4", "asym_int4", "sym_int5", "asym_int5", "sym_int8")]
    COMPILE: Annotated[str, choice("auto", "on", "off")]

    DATA_PATH: Annotated[str, PATH]
    STREAMING: Annotated[bool, SWITCH]
    SHUFFLE_BUFFER: Annotated[int, whole(1)]
    EXTRA_DATA: Annotated[str, OPTIONAL_PATH]
    EXTRA_WEIGHT: Annotated[int, whole(1)]
    COLUMNS: Annotated[str, OPTIONAL_TEXT]
    SQL_DIALECT: Annotated[str, choice(*DIALECTS)]
    DATABASE_FOLDER: Annotated[str, OPTIONAL_PATH]
    CHECK_DATA: Annotated[str, choice("off", "warn", "drop", "fix")]
    TABLE_ALIASES: Annotated[str, choice("keep", "drop")]
    RENAMED_COPIES: Annotated[int, whole(0)]
    MAX_LENGTH: Annotated[int, whole(8)]
    LONG_ROWS: Annotated[str, choice("shorten", "drop", "raise")]
    VALIDATION_ROWS: Annotated[int, whole(1)]
    HOLDOUT: Annotated[str, OPTIONAL_PATH]

    START_FROM: Annotated[str, OPTIONAL_PATH]
    MAX_STEPS: Annotated[int, whole(1)]
    BATCH_SIZE: Annotated[int, whole(1)]
    GRADIENT_ACCUMULATION_STEPS: Annotated[int, whole(1)]
    LEARNING_RATE: Annotated[float, real("a number above 0 and at most 1", lambda v: 0 < v <= 1)]
    WARMUP_STEPS: Annotated[int, whole(0)]
    MAX_GRAD_NORM: Annotated[float, real("a number above 0", lambda v: v > 0)]
    LORA_R: Annotated[int, whole(1)]
    LORA_ALPHA: Annotated[float, real("a number above 0", lambda v: v > 0)]
    LORA_DROPOUT: Annotated[float, real("a number from 0 to below 1", lambda v: 0 <= v < 1)]
    LORA_TARGETS: Annotated[list[str], NAMES]
    TRAIN_ON_INPUTS: Annotated[bool, SWITCH]
    GRADIENT_CHECKPOINTING: Annotated[bool, SWITCH]
    PACKING: Annotated[str, choice("auto", "tree", "prefix", "off")]
    MAX_TOKENS_PER_PASS: Annotated[int, whole(0)]
    LOGGING_STEPS: Annotated[int, whole(1)]
    EVAL_STEPS: Annotated[int, whole(1)]
    BEST_BY: Annotated[str, choice("execution", "loss")]
    EARLY_STOPPING: Annotated[int, whole(0)]
    SAVE_STEPS: Annotated[int, whole(1)]
    SAVE_TOTAL_LIMIT: Annotated[int, whole(1)]
    ESTIMATE: Annotated[bool, SWITCH]
    MEMORY: Annotated[int, SIZE]
    REPORT_TO: Annotated[str, choice("none", "tensorboard", "wandb", "trackio")]

    TEST_DATA: Annotated[str, PATH]
    LORA_CHECKPOINT: Annotated[str, PATH]
    MODEL: Annotated[str, choice("base", "adapter", "both")]
    MAX_NEW_TOKENS: Annotated[int, whole(1)]
    GENERATION_BATCH_SIZE: Annotated[int, whole(0)]
    CONSTRAIN: Annotated[str, choice("off", "names", "sql")]
    MERGE_FOR_GENERATION: Annotated[str, choice("auto", "on", "off")]
    NUM_BEAMS: Annotated[int, whole(1)]
    NUM_CANDIDATES: Annotated[int, whole(1)]
    TEMPERATURE: Annotated[float, real("a number above 0 and at most 2", lambda v: 0 < v <= 2)]
    REPETITION_PENALTY: Annotated[float, real("a number above 0", lambda v: v > 0)]
    QUESTION: Annotated[str, OPTIONAL_TEXT]
    CONTEXT: Annotated[str, OPTIONAL_PATH]
    OUTPUT: Annotated[str, OPTIONAL_PATH]
    EVALUATE: Annotated[bool, SWITCH]
    RULE: Annotated[str, choice("strict", "test-suite", "bird")]

    DATABASE: Annotated[str, OPTIONAL_PATH]
    QUESTIONS: Annotated[str, OPTIONAL_PATH]
    SCHEMAS: Annotated[list[str], OPTIONAL_NAMES]
    TABLES: Annotated[list[str], OPTIONAL_NAMES]
    EXECUTE: Annotated[bool, SWITCH]
    FORMAT: Annotated[str, choice("table", "csv", "json")]
    QUERY_SECONDS: Annotated[float, real("a number above 0 and at most 86400", lambda v: 0 < v <= 86400)]
    INTERACTIVE: Annotated[bool, SWITCH]
    SAVE_FEEDBACK: Annotated[str, OPTIONAL_PATH]

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _check(name, value)
        vars(self).update(expanded(vars(self)))
        _check_combinations(self)
        _check_question(self)

    @property
    def step_rows(self) -> int:
        """The rows of an optimiser step, of all processes together."""
        return self.BATCH_SIZE * self.GRADIENT_ACCUMULATION_STEPS

    @property
    def prompt_layout(self) -> str:
        """The layout of prompts, a key of prompt/template.py's TEMPLATES."""
        return self.PROMPT_ORDER + (" chat" if self.PROMPT_FORMAT == "chat" else "")

    def as_dict(self) -> dict[str, Any]:
        """The settings that may be written to a file: all but SECRET ones."""
        return {name: value for name, value in asdict(self).items() if name not in SECRET}


SETTING_KINDS: dict[str, Kind] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Settings, include_extras=True).items()
}


def check_names(names: Mapping[str, Any]) -> None:
    """Raises UserError for a name that is no setting, with the nearest one that is."""
    for name in sorted(names.keys() - SETTING_KINDS.keys()):
        near = get_close_matches(name, SETTING_KINDS, n=1)
        raise UserError(
            f"unknown setting {name}; {f'did you mean {near[0]}?' if near else 'config.py lists the settings'}"
        )


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with ~ expanded in every path. Raises UserError for an unknown user or a blank path."""
    paths = [
        name
        for name, value in values.items()
        if name in SETTING_KINDS and SETTING_KINDS[name].is_path and isinstance(value, str) and value
    ]
    return {**values, **{name: expand(values[name], setting_and_flag(name)) for name in paths}}


def flag(name: str) -> str:
    """BATCH_SIZE -> --batch-size"""
    return "--" + name.lower().replace("_", "-")


def setting_and_flag(name: str) -> str:
    """BATCH_SIZE -> BATCH_SIZE (--batch-size), as messages name a setting."""
    return f"{name} ({flag(name)})"


def _check(name: str, value: Any) -> None:
    if not SETTING_KINDS[name].valid(value):
        shown = "not shown" if name in SECRET else repr(value)
        raise UserError(f"{setting_and_flag(name)} is {shown}; it must be {SETTING_KINDS[name].wants}")


def _check_combinations(s: Settings) -> None:
    if s.SAVE_STEPS % s.EVAL_STEPS:
        raise UserError(
            f"SAVE_STEPS (--save-steps) is {s.SAVE_STEPS} and EVAL_STEPS (--eval-steps) is {s.EVAL_STEPS}; SAVE_STEPS "
            f"must "
            f"be a multiple of EVAL_STEPS, since the best checkpoint is chosen by its evaluation"
        )
    if s.MEMORY and (s.DEVICE == "auto" or not s.ESTIMATE):
        raise UserError(
            f"MEMORY (--memory) is {s.MEMORY / 1e9:g} GB, of a device that need not be here; add "
            f"{'--estimate' if s.DEVICE != 'auto' else '--estimate, and --device xpu, cuda or cpu'}"
        )
    if same(s.CHECKPOINT_DIR, s.MODEL_PATH):
        raise UserError(
            f"CHECKPOINT_DIR and MODEL_PATH (--model-path) are both {s.MODEL_PATH!r}; give them two folders"
        )
    if s.STREAMING and (s.EXTRA_DATA or s.BACKEND == "bigdl"):
        other = "EXTRA_DATA (--extra-data)" if s.EXTRA_DATA else "BACKEND (--backend) bigdl"
        raise UserError(f"STREAMING (--streaming) does not work with {other}; leave one out")
    if 1 < s.NUM_BEAMS < s.NUM_CANDIDATES:
        raise UserError(
            f"NUM_CANDIDATES (--num-candidates) is {s.NUM_CANDIDATES} and NUM_BEAMS (--num-beams) is {s.NUM_BEAMS}; "
            f"take at least as many beams, or 1 beam to sample the candidates"
        )


def _check_question(s: Settings) -> None:
    if s.QUESTION and not s.QUESTION.strip():
        raise UserError("QUESTION (--question) has blanks alone; ask something, or leave the flag out")
    if s.DATABASE:
        _check_database(s)
        return
    if s.QUESTION and not s.CONTEXT:
        raise UserError(
            f"QUESTION (--question) is {s.QUESTION!r} without its schema; add --context with CREATE TABLE text "
            f"or a .sql file, or --database with a live one"
        )
    if s.CONTEXT and not s.QUESTION:
        raise UserError("CONTEXT (--context) is given without a question; add --question")
    for name in NEED_DATABASE:
        if getattr(s, name):
            raise UserError(
                f"{setting_and_flag(name)} needs a database; add --database with its URL, or with an SQLite file"
            )


def _check_database(s: Settings) -> None:
    asks = [setting_and_flag(name) for name in ASKS if getattr(s, name)]
    if len(asks) > 1:
        raise UserError(f"{' and '.join(asks)} are given; a database is asked in one way")
    if s.CONTEXT:
        raise UserError(
            "CONTEXT (--context) and DATABASE (--database) are given, and both are the schema; leave one out"
        )
    if s.FORMAT == "csv" and s.QUESTIONS:
        raise UserError(
            "FORMAT (--format) is 'csv', which holds one table, and QUESTIONS (--questions) asks for several; take json"
        )
    if s.FORMAT == "csv" and not s.EXECUTE and not s.INTERACTIVE:
        raise UserError("FORMAT (--format) is 'csv', and no query is run that could give rows; add --execute")
    if s.SAVE_FEEDBACK and not s.INTERACTIVE:
        raise UserError("SAVE_FEEDBACK (--save-feedback) keeps what you correct at the prompt; add --interactive")
