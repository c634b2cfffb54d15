"""config.py and its flags: layers, checks, and messages that name the flag, the value and the remedy."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import config
from sqlora.settings import command_line, settings
from sqlora.system.errors import UserError

ROOT = Path(__file__).parents[2]


def load(*arguments):
    return command_line.load_settings(list(arguments), "about")


def shown(values):
    return {name: value for name, value in values.items() if name not in settings.SECRET}


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_valid(preset):
    resolved = load("--preset", preset).as_dict()
    assert {name: resolved[name] for name in config.PRESETS[preset]} == config.PRESETS[preset]


def test_every_constant_has_a_rule_a_line_and_a_right_default():
    names = {name for name in vars(config) if name.isupper()} - command_line.NOT_SETTINGS
    assert names == set(settings.SETTING_KINDS)
    meanings = {name: text for heading in command_line.headings() for name, text in heading.settings.items()}
    assert meanings.keys() == names
    assert all(meanings.values())
    assert all(heading.scripts for heading in command_line.headings())
    assert load().as_dict() == shown(command_line.constants())


def test_the_names_and_values_of_the_seed():
    s = load()
    assert (s.BASE_MODEL, s.DATA_PATH) == ("openlm-research/open_llama_3b", "b-mc2/sql-create-context")
    assert (s.MODEL_PATH, s.CHECKPOINT_DIR, s.DEVICE) == ("./saved_model", "./lora_models", "auto")
    assert (s.BATCH_SIZE, s.GRADIENT_ACCUMULATION_STEPS, s.WARMUP_STEPS, s.MAX_STEPS) == (32, 4, 100, 300)
    assert (s.SAVE_STEPS, s.EVAL_STEPS, s.LOGGING_STEPS, s.SAVE_TOTAL_LIMIT) == (20, 20, 20, 3)
    assert (s.LEARNING_RATE, s.MAX_GRAD_NORM) == (3e-4, 0.3)
    assert (s.LORA_R, s.LORA_ALPHA, s.LORA_DROPOUT) == (16, 32, 0.05)
    assert s.LORA_TARGETS == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert (s.MAX_LENGTH, s.VALIDATION_ROWS, s.SEED) == (512, 100, 42)


def test_editing_a_constant_and_passing_its_flag_do_the_same(monkeypatch):
    flagged = load("--batch-size", "8", "--lora-targets", "q_proj, v_proj", "--train-on-inputs").as_dict()
    monkeypatch.setattr(config, "BATCH_SIZE", 8)
    monkeypatch.setattr(config, "LORA_TARGETS", ["q_proj", "v_proj"])
    monkeypatch.setattr(config, "TRAIN_ON_INPUTS", True)
    assert load().as_dict() == flagged


def test_layers_constant_preset_run_flag(tmp_path):
    (tmp_path / "sqlora.json").write_text('{"settings": {"MAX_STEPS": 7, "BATCH_SIZE": 3}}')
    preset = config.PRESETS["tiny"]
    tiny = load("--preset", "tiny")
    assert tiny.MAX_STEPS != config.MAX_STEPS
    assert tiny.as_dict() == shown(command_line.constants()) | preset
    mixed = load("--preset", "tiny", "--from-run", str(tmp_path), "--batch-size", "5")
    assert (mixed.MAX_STEPS, mixed.BATCH_SIZE, mixed.LEARNING_RATE) == (7, 5, preset["LEARNING_RATE"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-size", "0"], ["BATCH_SIZE", "--batch-size", "0", "from 1 to"]),
        (["--batch-size", "-3"], ["--batch-size", "-3"]),
        (["--batch-size", "1.5"], ["--batch-size", "1.5", "whole number"]),
        (["--batch-size", "many"], ["--batch-size", "many", "whole number"]),
        (["--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["--learning-rate", "0"], ["--learning-rate", "0"]),
        (["--max-grad-norm", "inf"], ["--max-grad-norm", "inf"]),
        (["--lora-dropout", "1"], ["--lora-dropout", "below 1"]),
        (["--lora-targets", "q_proj,,"], ["--lora-targets"]),
        (["--device", "tpu"], ["--device", "tpu", "xpu, cuda, cpu"]),
        (["--base-model", " "], ["--base-model"]),
        (["--batch-sise", "3"], ["--batch-sise", "--batch-size"]),
        (["--preset", "tinny"], ["--preset", "tinny", "tiny"]),
        (["--max-steps"], ["--max-steps"]),
        (["stray"], ["stray"]),
        (["--save-steps", "30"], ["--save-steps", "--eval-steps", "30", "20", "multiple"]),
        (["--model-path", "./lora_models"], ["CHECKPOINT_DIR", "--model-path"]),
        (["--question", "How many?"], ["--question", "--context"]),
        (["--context", "CREATE TABLE t (a INT)"], ["--question"]),
        (["--from-run", "nowhere"], ["--from-run", "nowhere"]),
        (["--memory", "16"], ["--memory", "'16'", "16GB"]),
        (["--memory", "GB"], ["--memory", "16GB"]),
        (["--memory", "16GB"], ["--memory", "16 GB", "--estimate", "--device xpu"]),
        (["--memory", "16GB", "--device", "xpu"], ["--memory", "add --estimate"]),
    ],
)
def test_a_wrong_flag_is_named_with_its_value_and_the_remedy(arguments, words):
    with pytest.raises(UserError) as caught:
        load(*arguments)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("BATCH_SIZE", "32", "whole number"),
        ("BATCH_SIZE", True, "whole number"),
        ("LORA_TARGETS", "q_proj", "list"),
        ("GRADIENT_CHECKPOINTING", 1, "True or False"),
        ("LEARNING_RATE", None, "number"),
        ("BATCH_SZIE", 3, "BATCH_SIZE"),
    ],
)
def test_a_wrong_constant_is_named(monkeypatch, name, value, word):
    monkeypatch.setattr(config, name, value, raising=False)
    with pytest.raises(UserError, match=name) as caught:
        load()
    assert word in str(caught.value)


def test_a_renamed_constant_is_named(monkeypatch):
    monkeypatch.delattr(config, "BATCH_SIZE")
    with pytest.raises(UserError, match="lacks BATCH_SIZE"):
        load()
    monkeypatch.setattr(config, "BATCHSIZE", 32, raising=False)
    with pytest.raises(UserError, match="unknown setting BATCHSIZE.*BATCH_SIZE"):
        load()


def test_the_url_of_a_database_is_never_shown_or_written_down(monkeypatch):
    url = "postgresql://me:s3cr3t@host/shop"
    assert "s3cr3t" not in str(load("--database", url, "--question", "x").as_dict())
    for flags in ((url,), ("--databse", url), ("--batch-size", url)):
        with pytest.raises(UserError) as caught:
            load(*flags)
        assert "s3cr3t" not in str(caught.value)
    monkeypatch.setattr(config, "DATABASE", ["s3cr3t"])
    with pytest.raises(UserError, match="not shown") as caught:
        load()
    assert "s3cr3t" not in str(caught.value)


def test_a_run_file_with_an_unknown_name_is_refused(tmp_path):
    (tmp_path / "sqlora.json").write_text('{"settings": {"MAX_STEP": 7}}')
    with pytest.raises(UserError, match="MAX_STEP.*MAX_STEPS"):
        load("--from-run", str(tmp_path))


def test_a_home_folder_in_the_paths_of_the_command_line(monkeypatch, tmp_path, capsys):
    from sqlora.data import __main__ as lint_command
    from sqlora.evaluation import __main__ as main_module
    from sqlora.merge import __main__ as merge

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sqlora.json").write_text('{"settings": {"MAX_STEPS": 7}}')
    row = dict.fromkeys(("question", "answer", "prediction"), "SELECT a FROM t") | {"context": "CREATE TABLE t (a INT)"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert load("--from-run", "~").MAX_STEPS == 7
    assert merge._check_output("~/merged") == tmp_path / "merged"
    lint_command.main(["~/rows.jsonl", "--fix", "~/fixed.jsonl"])
    monkeypatch.setattr(sys, "argv", ["evaluation", "~/rows.jsonl", "--json", "~/verdicts.json"])
    main_module.main()
    assert {path.name for path in tmp_path.iterdir()} == {
        "sqlora.json",
        "rows.jsonl",
        "fixed.jsonl",
        "fixed.dropped.jsonl",
        "verdicts.json",
    }
    for arguments in (
        ["~nosuchuser/a"],
        ["rows.jsonl", "--fix", "~nosuchuser/a"],
        ["rows.jsonl", "--tokenizer", "~nosuchuser"],
    ):
        with pytest.raises(SystemExit):
            lint_command.main(arguments)
        assert "'~nosuchuser' is not known" in capsys.readouterr().err
    for call in (lambda: merge._check_output("~nosuchuser/m"), lambda: load("--from-run", "~nosuchuser/run")):
        with pytest.raises(UserError, match="'~nosuchuser' is not known"):
            call()


@pytest.mark.parametrize("script", ["finetune.py", "generate.py"])
def test_a_wrong_flag_exits_2_with_one_line(script):
    done = subprocess.run([sys.executable, ROOT / script, "--batch-size", "0"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_setting_is_read_by_a_script_and_help_has_its_choices(capsys):
    with pytest.raises(SystemExit):
        load("--help")
    shown = capsys.readouterr().out
    assert all(f"  {settings.flag(name)} " in shown for name in settings.SETTING_KINDS)
    assert "--device auto|xpu|cuda|cpu" in shown
    assert "--batch-size INTEGER" in shown
    assert shown.index("Training data:") < shown.index("--data-path") < shown.index("Fine-tuning:")


def test_an_edited_config_without_comments_and_headings_still_has_its_flags(monkeypatch, tmp_path):
    lines = (ROOT / "config.py").read_text().splitlines()
    bare = [
        re.sub(r"^([A-Z_]+): [^=]*=", r"\1 =", line.partition("  # ")[0]) for line in lines if not line.startswith("#")
    ]
    (tmp_path / "config.py").write_text("\n".join(bare))
    monkeypatch.setattr(config, "__file__", str(tmp_path / "config.py"))
    assert load("--batch-size", "8").BATCH_SIZE == 8
    with pytest.raises(SystemExit):
        load("--help")


@pytest.mark.parametrize("script", ["finetune.py", "generate.py"])
def test_help_lists_what_the_script_reads_without_loading_torch(script):
    run = f"import sys, runpy; sys.argv = ['x', '--help']; runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    code = f"try:\n    exec({run!r})\nfinally:\n    import sys; print('torch' in sys.modules)"
    before = os.times().children_user
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert os.times().children_user - before < 2  # seconds of a core; a third of one on an idle machine
    assert done.returncode == 0
    assert done.stdout.strip().endswith("False")
    listed = {name for name in settings.SETTING_KINDS if f"  {settings.flag(name)} " in done.stdout}
    read = {name for heading in command_line.headings() if script in heading.scripts for name in heading.settings}
    assert listed == read


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (None, "PRESETS of config.py"),
        ({"tiny": None}, "PRESETS of config.py"),
        ({"tiny": {"MAX_STEP": 60}}, "unknown setting MAX_STEP; did you mean MAX_STEPS"),
    ],
)
def test_presets_that_are_none(monkeypatch, presets, message):
    monkeypatch.setattr(config, "PRESETS", presets)
    with pytest.raises(UserError, match=message):
        load("--preset", "tiny")
