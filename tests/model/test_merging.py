"""4-bit weights made plain, and adapters folded into them: what is computed stays the same."""

import gc
import weakref

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sqlora.model import adapter, base_models, device, loading, merging
from sqlora.system.errors import UserError

IDS = torch.arange(5, 65).reshape(3, 20)


@pytest.fixture
def load(llama_folder, make_settings):
    """The tiny Llama with low-bit weights, float32 or bfloat16 beside them."""

    def load(low_bit="nf4", dtype="float32"):
        return loading.load_base(
            base_models.find_base_model(str(llama_folder)),
            low_bit,
            device.choose_device("cpu", dtype),
            training=False,
        ).eval()

    return load


def wrap(model, **shape):
    """An adapter that does something: PEFT's own begins with zeros."""
    torch.manual_seed(1)
    return get_peft_model(
        model,
        LoraConfig(
            r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False, **shape
        ),
    ).eval()


@torch.inference_mode()
def logits(model):
    return model(IDS).logits.double()


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("low_bit", ["nf4", "fp4"])
def test_an_unpacked_model_computes_what_the_4_bit_one_did(load, low_bit):
    model = load(low_bit)
    before = logits(model)
    merging.dequantise(model, torch.float32)
    assert not any(isinstance(module, Linear4bit) for module in model.modules())
    assert distance(logits(model), before) < 1e-6
    assert distance(logits(load("none")), before) > 1e-3  # which the unquantised weights do not


@pytest.mark.parametrize("used", [False, True])
def test_in_bfloat16_too_before_and_after_bitsandbytes_repacks(load, used):
    exact = load(dtype="bfloat16")
    merging.dequantise(exact, torch.float32)
    exact = logits(exact)
    model = load(dtype="bfloat16")
    if used:  # where the CPU has AVX512_BF16, this repacks
        four_bit = distance(logits(model), exact)
    merging.dequantise(model, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert distance(logits(model), exact) < 0.01
    if used:
        assert distance(logits(model), exact) < 2 * four_bit


def test_an_unpacked_model_is_an_ordinary_one(load, tmp_path):
    model = load()
    before = logits(model)
    layers = [weakref.ref(module.weight) for module in model.modules() if isinstance(module, Linear4bit)]
    gc.disable()
    try:
        merging.dequantise(model, torch.float32)
        assert layers
        assert not any(layer() is not None for layer in layers)  # freed at once, not when the collector comes
    finally:
        gc.enable()
    assert not getattr(model, "is_quantized", False)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not any("absmax" in name for name in file.keys())  # noqa: SIM118 (safe_open has no iterator)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not hasattr(plain.config, "quantization_config")
    assert distance(logits(plain.eval()), before) < 1e-6
    assert model.to(torch.float64).dtype == torch.float64  # which transformers refuses with a quantised model
    assert model.num_parameters() == plain.num_parameters()


@pytest.mark.parametrize("unpacked", ["before the adapter", "inside it"])
@pytest.mark.parametrize("shape", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_a_merged_adapter_computes_what_base_and_adapter_did(load, unpacked, shape):
    model = load()
    before = logits(wrap(load(), **shape))
    if unpacked == "before the adapter":
        merging.dequantise(model, torch.float64)
        model = wrap(model, **shape)
    else:
        model = wrap(model, **shape)
        merging.dequantise(model, torch.float64)
        assert {weight.dtype for name, weight in model.named_parameters() if "lora_" in name} == {torch.float32}
    with model.disable_adapter():
        base = logits(model)
    assert distance(base, before) > 0.1  # the adapter does something
    model = merging.merge_adapter(model)
    assert not isinstance(model, PeftModel)
    assert not any("lora" in name for name in model.state_dict())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert distance(logits(model), before) < 1e-5


def test_in_bfloat16_the_sum_is_rounded_once(load):
    exact, rounded = load(dtype="bfloat16"), load(dtype="bfloat16")
    merging.dequantise(exact, torch.float32)
    merging.dequantise(rounded, torch.bfloat16)
    exact, rounded = wrap(exact), wrap(rounded)
    lora = {name: weight for name, weight in exact.state_dict().items() if "lora_" in name}
    rounded.load_state_dict(lora, strict=False)  # which PEFT draws in the base's type
    exact, rounded = (
        merging.merge_adapter(model).model.layers[0].self_attn.q_proj.weight for model in (exact, rounded)
    )
    # half a unit in the last place of the sum
    assert ((rounded.float() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-7).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_broken_adapter_is_refused(load, number):
    model = wrap(load("none"))
    model.base_model.model.model.layers[0].self_attn.v_proj.lora_A["default"].weight.data[0, 0] = number
    with pytest.raises(UserError, match=r"not finite, first model.layers.0.self_attn.v_proj.weight"):
        merging.merge_adapter(model)


def test_what_cannot_be_merged_is_reported(load, tmp_path):
    wrap(load("none"), lora_bias=True).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"cannot be merged.*lora_bias"):
        merging.merge_adapter(adapter.load_adapter(load("none"), tmp_path))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_one_of_two_tied_layers_changes_that_one_alone(tmp_path, target):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", target], init_lora_weights=False)).eval()
    expected = logits(wrapped)
    merged = merging.merge_adapter(wrapped)
    assert distance(logits(merged), expected) < 1e-5
    merged.save_pretrained(tmp_path)
    assert distance(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), expected) < 1e-5
