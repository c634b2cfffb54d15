"""The kinds of adapters that SQLoRA runs as PEFT does, and the check of any adapter_config.json.

A kind is run if each layer's change depends only on its own token, since prompts share their prefixes in generation,
and if all its weights are in its file. tests/model/test_adapter_kinds.py compares each kind with PEFT's own loading on
an untouched base.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, mapping
from safetensors import SafetensorError, safe_open

from sqlora.model.transformers_compat import LEGACY
from sqlora.storage.checkpoints import WEIGHTS, read_object
from sqlora.system.errors import UserError

CONFIGURATION = "adapter_config.json"
# of the names of an adapter's own tensors; peft of BACKEND bigdl knows LoRA alone
PREFIXES = tuple(getattr(mapping, "PEFT_TYPE_TO_PREFIX_MAPPING", {"LORA": "lora_"}).values())
ANYWHERE = {
    "LORA",
    "ADALORA",
    "IA3",
    "VERA",
    "OFT",
    "BOFT",
    "FOURIERFT",
    "LN_TUNING",
    "MISS",
    "RANDLORA",
    "C3A",
    "ROAD",
    "TRAINABLE_TOKENS",
    "WAVEFT",
    "GRALORA",
    "SHIRA",
    "HIRA",
}
UNQUANTISED = {"LOHA", "LOKR", "HRA", "DELORA", "PSOFT"}  # they compute with the base's own weights
# LoRA's settings that may differ from their default; one that PEFT does not know is refused.
DESCRIBING = {  # they leave the answers as they are
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
    "lora_dropout",
}
SHAPING = {  # they make it another adapter
    "peft_type",
    "task_type",
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "trainable_token_indices",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "use_dora",
    "lora_bias",
    "target_parameters",
    "ensure_weight_tying",
}
SETTINGS = DESCRIBING | SHAPING
# values of init_lora_weights that leave the base as it is
HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
PATTERNS = ("target_modules", "exclude_modules", "target_parameters", "layers_pattern", "rank_pattern", "alpha_pattern")
PATTERN_SECONDS = 5
# As PEFT uses them: patterns for layers match whole names, keys of rank_pattern the end of one.
TRY_PATTERNS = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for pattern in patterns:
    for name in names:
        re.fullmatch(pattern, name)
        re.match(rf"(.*\\.)?({pattern})$", name)
"""


@dataclasses.dataclass(frozen=True)
class AdapterKind:
    """The adapter in `folder`. `changes_base`: it changes the base's own weights, even when it is switched off."""

    folder: Path
    config: dict
    changes_base: bool

    @property
    def name(self) -> str:
        return self.config["peft_type"]


def read_kind(folder: Path) -> AdapterKind:
    """The kind of the adapter in `folder`, without loading it. Raises UserError, with the reason, if it is not run."""
    try:
        config = read_object(folder / CONFIGURATION, "name another --lora-checkpoint")
    except OSError as error:
        raise UserError(
            f"{folder}: this adapter cannot be loaded: its {CONFIGURATION} cannot be read ({error.strerror}); name "
            f"another --lora-checkpoint"
        ) from None
    if beyond := _beyond(config):
        raise UserError(f"{folder}: this adapter {beyond}; name another --lora-checkpoint, or use it with PEFT alone")
    shapes = _shapes(folder / WEIGHTS)
    largest = max((number for shape in shapes.values() for number in shape), default=0)
    if wide := [rank for rank in _ranks(config) if rank > largest]:
        raise UserError(
            f"{folder}: {CONFIGURATION} has the rank {wide[0]}, and no tensor in {WEIGHTS} is so large; the two "
            f"do not belong together: name another --lora-checkpoint"
        )
    start, bias = config.get("init_lora_weights"), config.get("bias", "none")
    changes = (
        start not in HARMLESS_STARTS
        or bias not in ("none", False, None)
        or any(_of_base(name, config) for name in shapes)
    )
    return AdapterKind(folder, config, changes)


def check_patterns(kind: AdapterKind, names: Iterable[str]) -> None:
    """Raises UserError if a regular expression of the adapter is invalid, or takes over PATTERN_SECONDS on `names`.

    They are tried on the base's module names in another process, since Python cannot stop a regular expression.
    """
    patterns = []
    for setting in PATTERNS:
        value = kind.config.get(setting)
        patterns += [value] if isinstance(value, str) else list(value) if isinstance(value, list | dict) else []
    patterns = [
        pattern for pattern in patterns if isinstance(pattern, str) and not pattern.replace(".", "").isidentifier()
    ]
    if not patterns:
        return
    try:
        subprocess.run(
            [sys.executable, "-I", "-c", TRY_PATTERNS],
            input=json.dumps([patterns, list(names)]),
            text=True,
            check=True,
            capture_output=True,
            timeout=PATTERN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        fault = f"it takes longer than {PATTERN_SECONDS} s"
    except subprocess.CalledProcessError as error:
        fault = (error.stderr.strip().splitlines() or ["the process that tried it ended"])[-1]
    else:
        return
    raise UserError(
        f"{kind.folder}: {CONFIGURATION} names its layers by a regular expression that cannot be used, {patterns}: "
        f"{fault}; list the layers' names instead, or name another --lora-checkpoint"
    )


def check_quantised(kind: AdapterKind, quantised: bool) -> None:
    """Raises UserError if the adapter computes with the base's own weights, and these are quantised."""
    start = kind.config.get("init_lora_weights")
    needs = (
        f"of the kind {kind.name}"
        if kind.name in UNQUANTISED
        else (
            f"which starts from the base's own weights (init_lora_weights {start!r})"
            if start in ("orthogonal", "mica", "corda") or str(start).startswith("pissa")
            else None
        )
    )
    if quantised and needs:
        raise UserError(
            f"{kind.folder}: an adapter {needs}, needs an unquantised base; set LOW_BIT (--low-bit) to none, "
            f"or name another --lora-checkpoint"
        )


def _beyond(config: dict) -> str | None:
    """Why the adapter is not run, as the end of a sentence that begins with "this adapter"; None if it is."""
    name, task = config.get("peft_type"), config.get("task_type")
    kinds = {str(getattr(known, "value", known)) for known in PEFT_TYPE_TO_CONFIG_MAPPING} & (ANYWHERE | UNQUANTISED)
    if not isinstance(name, str) or name not in kinds:
        return f"is of the kind {name!r}, which SQLoRA does not run; it runs {', '.join(sorted(kinds))}"
    if task not in (None, "CAUSAL_LM"):
        return f"was made for {task!r}, not for a causal language model"
    if str(start := config.get("init_lora_weights")).startswith("pissa_niter"):
        return (
            f"decomposed the base's weights with random numbers ({start}), which cannot be repeated: PEFT's "
            f"save_pretrained(path_initial_model_for_weight_conversion=...) converts it to an ordinary one"
        )
    if LEGACY:  # bigdl.py checks what its peft knows
        return None
    known = {field.name: _default(field) for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)])}
    odd = [
        key
        for key, value in config.items()
        if value and key not in SETTINGS and (key not in known or (name == "LORA" and value != known[key]))
    ]
    return f"has {', '.join(sorted(odd)[:5])}, which SQLoRA does not run" if odd else None


def _default(field: dataclasses.Field) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _ranks(config: dict) -> list[int]:
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else [])]
    return [rank for rank in ranks if isinstance(rank, int)]


def _shapes(weights: Path) -> dict[str, list[int]]:
    try:
        with safe_open(weights, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (safe_open has no iterator)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{weights}: this adapter cannot be loaded: {error}; fetch it again, or name another --lora-checkpoint"
        ) from None


def _of_base(name: str, config: dict) -> bool:
    """Whether a tensor of the file belongs to the base, such as embeddings with additional rows or a trained norm."""
    parts = name.split(".")
    saved = config.get("modules_to_save")
    return (
        parts[-1] in ("weight", "bias")
        and not any(part.startswith(PREFIXES) for part in parts)
        and not (isinstance(saved, list) and set(saved) & set(parts))
    )
