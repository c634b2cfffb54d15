"""The base models that users really have: each loads, quantised or not, and what is wrong with one is reported."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sqlora.data.tokenise import tokenise_rows
from sqlora.generation import answer_writer
from sqlora.model import base_models, device, loading
from sqlora.system.errors import UserError
from sqlora.training.packing import packed_batches, packed_loss

CPU = device.choose_device("cpu", "float32")
ROWS = [{"question": "How many?", "context": "CREATE TABLE t (a INTEGER)", "answer": "SELECT COUNT(*) FROM t"}]


@pytest.mark.parametrize("kind", ["llama", "openllama", "codellama", "mistral", "qwen2"])
@pytest.mark.parametrize("low_bit", ["nf4", "none"])
def test_every_kind_of_causal_model_trains_and_generates(request, make_settings, kind, low_bit):
    base = base_models.find_base_model(str(request.getfixturevalue(f"{kind}_folder")))
    settings = make_settings("--low-bit", low_bit, "--max-new-tokens", "3")
    loading.check_causal(base)
    tokenizer = loading.load_tokenizer(base)
    model = loading.wrap_with_adapter(loading.load_base(base, settings.LOW_BIT, CPU, training=True), settings)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert all(parameter.dtype == torch.float32 for name, parameter in model.named_parameters() if name in trained)

    (inputs,) = packed_batches.make_batches(tokenise_rows(ROWS, tokenizer, settings).rows, "off", 10_000)
    model.train()
    loss = packed_loss.loss_sum(model, inputs, model.get_base_model())
    loss.backward()
    assert torch.isfinite(loss)
    assert any(parameter.grad is not None and parameter.grad.norm() > 0 for parameter in model.parameters())
    assert len(answer_writer.SqlWriter(model, tokenizer, settings).write(ROWS)) == 1


def test_an_adapter_on_a_layer_that_is_not_there(llama_folder, make_settings):
    settings = make_settings("--lora-targets", "q_proj,c_attn,query", "--low-bit", "none")
    model = loading.load_base(base_models.find_base_model(str(llama_folder)), settings.LOW_BIT, CPU, training=True)
    with pytest.raises(UserError, match="c_attn, query.*down_proj, gate_proj, k_proj"):
        loading.wrap_with_adapter(model, settings)


def test_all_linear_layers_can_be_named_at_once(llama_folder, make_settings):
    settings = make_settings("--lora-targets", "all-linear")
    model = loading.wrap_with_adapter(
        loading.load_base(base_models.find_base_model(str(llama_folder)), settings.LOW_BIT, CPU, training=True),
        settings,
    )
    names = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_model_that_is_not_causal(bert_folder):
    with pytest.raises(UserError, match="--base-model.*Bert.*not a causal"):
        loading.check_causal(base_models.find_base_model(str(bert_folder)))


def test_rows_longer_than_the_model_sees(llama_folder):
    base = base_models.find_base_model(str(llama_folder))
    loading.check_causal(base, 1024)
    with pytest.raises(UserError, match="--max-length.*1024"):
        loading.check_causal(base, 1025)


@pytest.fixture
def copy(llama_folder, tmp_path):
    return shutil.copytree(llama_folder, tmp_path / "copy")


def load(folder):
    base = base_models.find_base_model(str(folder))
    loading.check_causal(base)
    loading.load_tokenizer(base)
    return loading.load_base(base, "none", CPU, training=True)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match="config.json"):
        base_models.find_base_model(str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        base_models.find_base_model(str(tmp_path / "none"))
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="a file"):
        base_models.find_base_model(str(tmp_path / "model.bin"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", ""),
        ("truncated", "cannot be loaded"),
        ("a tensor missing", "missing"),
        ("wrong shape", "other sizes than its config.json states"),
        ("bad config", "config.json"),
        ("no heads", "config.json cannot be used: ZeroDivisionError"),
        ("wrong type", "config.json cannot be used: .*hidden_size"),
        ("unknown type", "config.json"),
        ("pickled code", "may hold code"),
        ("a pointer", "model.safetensors is a Git LFS pointer.*git lfs pull"),
    ],
)
def test_damaged_snapshots_are_reported(copy, damage, message):
    weights, config = copy / "model.safetensors", copy / "config.json"
    tensors = load_file(weights)
    if damage == "no weights":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "a tensor missing":
        del tensors["model.layers.0.self_attn.q_proj.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    elif damage == "wrong shape":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 32}))
    elif damage == "bad config":
        config.write_text("{")
    elif damage in ("no heads", "wrong type"):
        changed = {"num_attention_heads": 0} if damage == "no heads" else {"hidden_size": "64"}
        config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    elif damage == "pickled code":
        weights.unlink()
        torch.save(tensors | {"code": Code()}, copy / "pytorch_model.bin")
    elif damage == "a pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    else:
        config.write_text(json.dumps({"model_type": "nonesuch", "architectures": ["NonesuchForCausalLM"]}))
    with pytest.raises(UserError, match=f"--base-model.*{message}"):
        load(copy)


class Code:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_weights_that_the_model_does_not_use_are_named(copy, capsys):
    config = copy / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    load(copy)
    assert "are not used, such as model.layers.1." in capsys.readouterr().out


def test_a_snapshot_without_a_tokenizer(copy):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="tokenizer"):
        load(copy)


CODE = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\n"


@pytest.mark.parametrize("part", ["config", "tokenizer", "generation"])
def test_a_models_own_code_is_never_run_and_nobody_is_asked(copy, monkeypatch, tmp_path, part):
    mark = tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda question: "y")
    for name in ("own.py", "custom_generate/generate.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(CODE.format(mark=str(mark)) + "def generate(*_, **__):\n    pass\n")
    if part == "config":
        config = {
            "model_type": "nonesuch",
            "architectures": ["OwnForCausalLM"],
            "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
        }
        (copy / "config.json").write_text(json.dumps(json.loads((copy / "config.json").read_text()) | config))
    if part == "tokenizer":
        kept = json.loads((copy / "tokenizer_config.json").read_text())
        own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
        (copy / "tokenizer_config.json").write_text(json.dumps(kept | own))
    if part == "generation":
        load(copy)
    else:
        with pytest.raises(UserError, match="--base-model.*needs its own code.*runs no code"):
            load(copy)
    assert not mark.exists()


def test_code_beside_a_kind_that_transformers_has_is_passed_over(copy):
    (copy / "own.py").write_text("raise SystemExit('ran')\n")
    config = json.loads((copy / "config.json").read_text()) | {
        "auto_map": {"AutoModelForCausalLM": "own.OwnForCausalLM"}
    }
    (copy / "config.json").write_text(json.dumps(config))
    assert type(load(copy)).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_json_that_is_nested_without_end_is_one_line(copy, name):
    (copy / name).write_text('{"a": ' * 100_000)
    with pytest.raises(UserError, match="--base-model"):
        load(copy)


def test_a_device_among_a_models_files_is_not_read(copy):
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="tokenizer.json is a device"):
        load(copy)


def test_a_base_whose_head_is_its_embeddings_may_lack_it(qwen2_folder, tmp_path):
    folder = shutil.copytree(qwen2_folder, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight


HUGE = b'{"a":{"dtype":"F32","shape":[99999999999,999],"data_offsets":[0,4]}}'


@pytest.mark.parametrize("header", [HUGE, b'{"a":' * 1000, b""])
@pytest.mark.parametrize("length", [None, 2**63 - 1])
def test_a_header_that_lies_is_one_line(copy, header, length):
    (copy / "model.safetensors").write_bytes((length or len(header)).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(UserError, match="--base-model"):
        load(copy)
