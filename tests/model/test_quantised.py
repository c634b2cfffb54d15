"""Bases that are quantised already: they compute what their files say, or are refused; memory is reported as it is."""

import importlib.util
import json
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MixtralConfig, MixtralForCausalLM

from sqlora.model import base_models, device, loading, merging, quantised
from sqlora.system.errors import UserError

CPU = device.choose_device("cpu", "float32")
IDS = torch.arange(5, 65).reshape(3, 20)
BLOCK = 16
FP8 = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}
CHANNELS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
        }
    },
}


def in_blocks(weight):
    """The weight in FP8, and its blocks' scales."""
    rows, columns = (size // BLOCK for size in weight.shape)
    blocks = weight.reshape(rows, BLOCK, columns, BLOCK)
    scales = blocks.abs().amax((1, 3)) / 448
    return (blocks / scales[:, None, :, None]).reshape(weight.shape).to(torch.float8_e4m3fn), scales


def in_channels(weight):
    scales = weight.abs().amax(1, keepdim=True) / 448
    return (weight / scales).to(torch.float8_e4m3fn), scales


@pytest.fixture
def make(llama_folder, tmp_path):
    """The tiny Llama with its linear layers' weights in FP8, under a quantization_config or none."""

    def make(described, quantise=in_blocks, scale="weight_scale_inv", weight="weight"):
        folder = shutil.copytree(llama_folder, tmp_path / "base")
        tensors = load_file(folder / "model.safetensors")
        for name in [name for name in tensors if name.endswith("_proj.weight")]:
            small, scales = quantise(tensors.pop(name))
            tensors |= {
                name.replace("weight", weight): small.contiguous(),
                name.replace("weight", scale): scales.contiguous(),
            }
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps(config | ({"quantization_config": described} if described else {}))
        )
        return folder

    return make


@pytest.fixture
def load(make_settings):
    def load(folder, low_bit="nf4", dtype="float32"):
        return loading.load_base(
            base_models.find_base_model(str(folder)),
            low_bit,
            device.choose_device("cpu", dtype),
            training=True,
        )

    return load


@torch.inference_mode()
def logits(model):
    return model.eval()(IDS).logits.double()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_fp8_is_made_plain_and_then_quantised_as_low_bit_says(make, load, llama_folder):
    folder, exact = make(FP8), logits(load(llama_folder, "none"))
    plain = load(folder, "none")
    assert quantised.in_memory(plain) == "none"
    assert distance(logits(plain), exact) < 0.05  # three bits of mantissa; without the scales it is above 1
    small = load(folder)
    assert quantised.in_memory(small) == "nf4"
    layer = small.model.layers[0].mlp.down_proj
    assert (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) == ("nf4", True)
    assert type(small.lm_head) is torch.nn.Linear
    unpacked = logits(small)
    merging.dequantise(small, torch.float32)
    assert distance(logits(small), unpacked) < 1e-6
    assert distance(unpacked, logits(load(llama_folder))) < 0.1
    assert {weight.dtype for weight in load(folder, "none", "bfloat16").parameters()} == {torch.bfloat16}


def test_fp8_trains_with_an_adapter(make, load, make_settings):
    settings = make_settings()
    model = loading.wrap_with_adapter(load(make(FP8)), settings)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    assert quantised.in_memory(model) == "nf4"


@pytest.mark.skipif(not importlib.util.find_spec("compressed_tensors"), reason="compressed-tensors is not installed")
def test_compressed_tensors_are_made_plain(make, load, llama_folder):
    model = load(make(CHANNELS, in_channels, "weight_scale"), "none")
    assert distance(logits(model), logits(load(llama_folder, "none"))) < 0.05


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128},
            "quantised by gptq.*name the original model",
        ),
        ({"quant_method": "awq", "bits": 4}, "quantised by awq"),
        ({"quant_method": "torchao"}, "quantised by torchao"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "quantised by modelopt"),
        ({"quant_algo": "FP8"}, "quantised by None"),
        (None, "seem quantised.*14 tensors.*weight_scale"),
    ],
)
@pytest.mark.parametrize("low_bit", ["nf4", "none"])
def test_scales_are_never_passed_over(make, load, described, words, low_bit):
    with pytest.raises(UserError, match=words):
        load(make(described, in_channels, "weight_scale"), low_bit)


def test_gptq_weights_without_a_word_in_config_json_are_not_reported_as_missing(make, load):
    with pytest.raises(UserError, match="seem quantised.*qweight"):
        load(make(None, in_channels, "scales", "qweight"))


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "float16"}, "fp4"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"load_in_8bit": True}, "int8"),
    ],
)
def test_what_bitsandbytes_quantised_stays_as_it_is_and_is_named(llama_folder, load, tmp_path, how, name):
    folder = shutil.copytree(llama_folder, tmp_path / "base")
    how = BitsAndBytesConfig(**how)
    made = AutoModelForCausalLM.from_pretrained(llama_folder, quantization_config=how, device_map={"": "cpu"})
    made.save_pretrained(folder)
    for low_bit in ("nf4", "none"):
        model = load(folder, low_bit)
        assert quantised.in_memory(model) == name
        assert {layer.compute_dtype for layer in model.modules() if isinstance(layer, Linear4bit)} <= {torch.float32}
        assert distance(logits(model), logits(load(llama_folder, name if name != "int8" else "none"))) < 0.03
    before = logits(model)
    merging.dequantise(model, torch.float32)
    assert distance(logits(model), before) < (0.03 if name == "int8" else 1e-6)  # int8 rounds its inputs too
    assert quantised.in_memory(model) == "none"


def test_the_experts_of_a_mixture_are_counted_and_have_the_compute_type(tmp_path, load):
    shape = MixtralConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=400,
        num_local_experts=4,
    )
    MixtralForCausalLM(shape).save_pretrained(tmp_path)
    model = load(tmp_path, "nf4", "bfloat16")
    assert quantised.in_memory(model) == "bfloat16 (80%), nf4 (20%)"
    assert model.model.layers[0].mlp.experts.down_proj.dtype == torch.bfloat16


@pytest.mark.parametrize("low_bit", ["nf4", "fp4", "none"])
def test_the_ordinary_base_is_reported_as_low_bit_has_it(llama_folder, load, make_settings, low_bit):
    model = load(llama_folder, low_bit)
    assert quantised.in_memory(model) == low_bit
    wrapped = loading.wrap_with_adapter(model, make_settings("--lora-r", "64"))
    assert quantised.in_memory(wrapped) == quantised.in_memory(wrapped.requires_grad_(False)) == low_bit


@pytest.mark.parametrize("low_bit", ["nf4", "none"])
@pytest.mark.parametrize(
    ("name", "number"), [("model.norm.weight", "nan"), ("model.layers.1.mlp.up_proj.weight", "inf")]
)
def test_weights_that_are_not_finite_are_reported(llama_folder, tmp_path, load, low_bit, name, number):
    folder = shutil.copytree(llama_folder, tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[3] = float(number)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"1 of its weights.*not finite, such as {name}"):
        load(folder, low_bit)


def test_weights_that_are_not_quantised_as_config_json_says_are_refused(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="remove quantization_config"):
        loading.load_base(base_models.find_base_model(str(folder)), "nf4", CPU, training=False)
