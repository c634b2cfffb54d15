"""Errors of a model's own code are one line."""

import families
import pytest
from transformers import AutoModelForCausalLM

from sqlora.model import base_models, device, loading
from sqlora.system.errors import UserError
from sqlora.training.agreement import check_training
from sqlora.training.packing import plan

CPU = device.choose_device("cpu", "float32")


REFUSED = {  # with all-linear and a dropout
    **dict.fromkeys(("mixtral", "qwen3_moe", "olmoe", "deepseek_v3"), "lora_dropout"),
    **dict.fromkeys(("phimoe", "llama4_text"), "cannot be trained here.*LORA_TARGETS"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_peft_cannot_wrap_is_one_line(kind, tmp_path, make_settings):
    folder = families.make_folder(kind, tmp_path)
    with pytest.raises(UserError, match=REFUSED[kind]):
        tried(*prepared(folder, make_settings, "--lora-targets", "all-linear"))


def tried(model, form):
    check_training(model, form, plan.trial_rows(model, form))


def prepared(folder, make_settings, *flags):
    settings = make_settings("--low-bit", "none", *flags)
    model = loading.load_base(base_models.find_base_model(str(folder)), settings.LOW_BIT, CPU, training=True)
    model = loading.wrap_with_adapter(model, settings)
    return model, plan.prepare_model(model, plan.choose_plan(model.config, settings, CPU), CPU)


def test_a_package_that_a_model_needs_and_that_is_not_there(llama_folder, make_settings, monkeypatch):
    def fail(*_, **__):
        raise ImportError("LlamaModel requires the mamba_ssm library")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(UserError, match="--base-model.*requires the mamba_ssm library"):
        loading.load_base(base_models.find_base_model(str(llama_folder)), "nf4", CPU, training=True)
