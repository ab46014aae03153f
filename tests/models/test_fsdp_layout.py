"""Models as FSDP2 can split them: the same function and the same file, no parameter in two places."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from builders import examples, tiny_model
from torch import nn
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy, transformer_auto_wrap_policy
from transformers import BertForMaskedLM, T5Config, T5ForConditionalGeneration

from hf_distill.models.fsdp_layout import fit_for_fsdp, give_parameters_one_place, layer_classes
from hf_distill.tasks import ParityMlpConfig, ParityMlpForSequenceClassification


def tiny_t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    )


def names(model: nn.Module) -> dict[nn.Parameter, set[str]]:
    """The names of each parameter, by module: a module that is in two places is one."""
    found: dict[nn.Parameter, set[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            found.setdefault(parameter, set()).add(f"{path}.{name}")
    return found


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (tiny_model("classification"), ["BertLayer"]),
        (tiny_model("causal_lm"), ["GPT2Block"]),
        (tiny_t5(), ["T5Block"]),
        (ParityMlpForSequenceClassification(ParityMlpConfig(d=10, width=4)), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_that_hold_the_embeddings_are_not_split_as_one(model, classes):
    assert layer_classes(model) == classes


@pytest.mark.parametrize("model", [tiny_model("masked_lm"), tiny_t5()], ids=lambda model: type(model).__name__)
def test_the_embeddings_parameters_are_in_no_other_module(model):
    inputs = {key: value[None] for key, value in examples("masked_lm")[0].items()}
    # The first logits of a decoder that has only its start are enough.
    more = {"decoder_input_ids": torch.zeros(1, 1, dtype=torch.int64)} if model.config.is_encoder_decoder else {}
    inputs = {key: value for key, value in inputs.items() if key != "labels"} | more
    before = model.eval()(**inputs).logits
    give_parameters_one_place(model)
    embeddings = {model.get_input_embeddings(), model.get_output_embeddings()}
    owners = [
        {module for module in model.modules() if any(one is parameter for one in module._parameters.values())}
        for parameter in model.parameters()
    ]
    assert [found for found in owners if len(found) > 1] == [embeddings]
    assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize("model", [tiny_model("masked_lm", seed=3), tiny_t5()], ids=lambda model: type(model).__name__)
def test_what_is_saved_is_read_as_before(model, tmp_path):
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    wanted = {name: value.clone() for name, value in model.state_dict().items()}
    give_parameters_one_place(model)
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    found = again.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def sharded(policy, classes=None):
    plugin = SimpleNamespace(fsdp_version=2, auto_wrap_policy=policy, transformer_cls_names_to_wrap=classes)
    return SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin))


def test_what_the_user_wraps_is_left_to_the_user():
    model = tiny_model("masked_lm")
    for accelerator, expected in [
        (sharded(transformer_auto_wrap_policy), ["BertLayer"]),
        (sharded(transformer_auto_wrap_policy, ["BertIntermediate"]), ["BertIntermediate"]),
        (sharded(size_based_auto_wrap_policy), None),
    ]:
        fit_for_fsdp(model, accelerator)
        assert accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap == expected


def test_a_model_that_is_not_split_stays_as_it_is():
    model = tiny_model("masked_lm")
    before = names(model)
    fit_for_fsdp(model, Accelerator(cpu=True))
    assert names(model) == before
    assert isinstance(model, BertForMaskedLM)
