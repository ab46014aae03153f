"""Layers of models: the right stack, the right states, and nothing computed behind the deepest layer asked for."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from builders import VOCABULARY, examples, tiny_model
from image_models import MAKERS, image_batch, image_model, resnet_config
from layered_models import LAYERS, PEFT_WARNS, Calls, distilbert, llama
from peft import LoraConfig, get_peft_model
from seq2seq_models import tiny_seq2seq
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    PreTrainedConfig,
    SwinConfig,
    SwinForImageClassification,
)

from hf_distill.reading.layers import attended_rows, check_early_exit, hidden_width, layer_count, layer_tap, layers_of
from hf_distill.tasks import ParityMlpConfig, ParityMlpForSequenceClassification


def adapted() -> nn.Module:
    lora = LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    return get_peft_model(tiny_model("masked_lm", num_hidden_layers=LAYERS), lora)


MODELS = {
    "bert": lambda: tiny_model("masked_lm", num_hidden_layers=LAYERS),
    "gpt2": lambda: tiny_model("causal_lm", n_layer=LAYERS),
    "distilbert": distilbert,
    "llama": llama,
    "lora": adapted,
}
FINAL_NORM = {"gpt2": lambda model: model.transformer.ln_f, "llama": lambda model: model.model.norm}
EVERY_MODEL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=PEFT_WARNS if name == "lora" else ()) for name in MODELS]
)


def batch() -> dict[str, torch.Tensor]:
    rows = examples("masked_lm", count=4)
    return {key: torch.stack([row[key] for row in rows]) for key in ("input_ids", "attention_mask")}


# ---- the right stack ----


@EVERY_MODEL
def test_the_stack_has_as_many_layers_as_the_configuration_names(name):
    model = MODELS[name]()
    assert len(layers_of(model)) == LAYERS == layer_count(model.config)
    assert hidden_width(model.config) == 16


def test_a_longer_list_inside_of_a_layer_is_not_taken_for_the_layers():
    """A mixture has more experts than the model has layers."""
    model = tiny_model("masked_lm")
    model.bert.encoder.layer[0].experts = nn.ModuleList([nn.Linear(2, 2) for _ in range(8)])
    assert layers_of(model) is model.bert.encoder.layer


def test_one_module_shared_by_all_layers_is_refused():
    sizes = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    model = AlbertForMaskedLM(AlbertConfig(vocab_size=VOCABULARY, num_hidden_layers=4, **sizes))
    with pytest.raises(ValueError, match=r"AlbertForMaskedLM keeps its layers in no nn\.ModuleList of .* = 4 modules"):
        layers_of(model)


def test_a_plain_module_without_a_configuration_is_refused():
    with pytest.raises(ValueError, match="use a curriculum that compares logits only"):
        layers_of(nn.Linear(2, 2))


def test_a_configuration_without_layers_or_width_is_named():
    with pytest.raises(ValueError, match="PreTrainedConfig names no num_hidden_layers"):
        layer_count(PreTrainedConfig())
    with pytest.raises(ValueError, match="PreTrainedConfig names no hidden_size"):
        hidden_width(PreTrainedConfig())


# ---- the right states ----


@EVERY_MODEL
def test_states_are_those_of_output_hidden_states(name):
    model = MODELS[name]().eval()
    with torch.no_grad():
        expected = model(**batch(), output_hidden_states=True).hidden_states
        with layer_tap(model, range(1, LAYERS + 1), stop=False) as states:
            model(**batch())
    for layer in range(1, LAYERS):
        assert torch.equal(states[layer], expected[layer]), layer
    last = FINAL_NORM[name](model)(states[LAYERS]) if name in FINAL_NORM else states[LAYERS]
    torch.testing.assert_close(last, expected[LAYERS], rtol=0, atol=0)


def test_the_hidden_layer_of_the_parity_network_is_its_one_layer():
    model = ParityMlpForSequenceClassification(ParityMlpConfig(input_size=6, width=9))
    signs = torch.randn(5, 6).sign()
    with layer_tap(model, [1], stop=True) as states:
        model(inputs=signs)
    assert torch.equal(states[1], model(inputs=signs, output_hidden_states=True).hidden_states[0])


@EVERY_MODEL
@pytest.mark.parametrize("deepest", [1, 2])
def test_stopping_changes_neither_states_nor_gradients(name, deepest):
    model = MODELS[name]().eval()
    gradients = []
    for stop in (True, False):
        model.zero_grad()
        with layer_tap(model, [deepest], stop=stop) as states:
            model(**batch())
        states[deepest].square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_an_early_exit_inside_a_checkpointed_layer_keeps_the_gradient(name, reentrant):
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = MODELS[name]().train()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        with layer_tap(model, [2], stop=True) as states:
            model(**batch())
        states[2].square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key in gradients[0]:
        torch.testing.assert_close(gradients[0][key], gradients[1][key], rtol=1e-5, atol=1e-7)


# ---- nothing behind the deepest layer ----


@EVERY_MODEL
@pytest.mark.parametrize("deepest", range(1, LAYERS + 1))
def test_only_the_first_layers_run_and_never_the_head(name, deepest):
    model = MODELS[name]().eval()
    calls = Calls(model)
    with layer_tap(model, [1, deepest], stop=True) as states:
        returned = model(**batch())
    assert calls.layers == [1] * deepest + [0] * (LAYERS - deepest)
    assert calls.head == 0
    assert sorted(states) == sorted({1, deepest})
    # DistributedDataParallel looks through the output for the parameters that took part.
    assert returned is states[deepest]


@EVERY_MODEL
def test_the_forward_is_whole_again_afterwards(name):
    model = MODELS[name]().eval()
    with torch.no_grad():
        before = model(**batch()).logits
        with layer_tap(model, [1], stop=True):
            model(**batch())
        assert torch.equal(model(**batch()).logits, before)
    assert "forward" not in model.__dict__
    assert not any(layer._forward_hooks for layer in layers_of(model))


@pytest.mark.parametrize("shadowed", [False, True], ids=["class's forward", "instance's forward"])
def test_an_exception_leaves_no_hook_and_no_shortened_forward(shadowed):
    model = tiny_model("masked_lm").eval()
    if shadowed:
        # As Accelerate leaves a model under mixed precision.
        inner = model.forward
        model.forward = lambda *args, **kwargs: inner(*args, **kwargs)
    forward = model.forward
    with pytest.raises(KeyError, match="a mistake in the body"), layer_tap(model, [1], stop=True):
        raise KeyError("a mistake in the body")
    with pytest.raises(ValueError, match="exactly one of input_ids"), layer_tap(model, [1], stop=True):
        model()
    assert model.forward == forward
    assert ("forward" in model.__dict__) == shadowed
    assert not any(layer._forward_hooks for layer in layers_of(model))
    assert model(**batch()).logits.shape[-1] == VOCABULARY


def test_an_error_inside_the_model_is_not_taken_for_the_end():
    model = tiny_model("masked_lm")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(IndexError))
        stack.enter_context(layer_tap(model, [2], stop=True))
        model(input_ids=torch.full((1, 3), VOCABULARY + 5))
    assert "forward" not in model.__dict__


@pytest.mark.parametrize("numbers", [[], [0], [3], [-1, 1]])
def test_layers_that_do_not_exist_are_refused(numbers):
    model = tiny_model("masked_lm")
    with pytest.raises(ValueError, match="BertForMaskedLM has layers 1 to 2"), layer_tap(model, numbers, stop=True):
        pass


# ---- images ----


def by_position(states: torch.Tensor) -> torch.Tensor:
    """Each position of a feature map by hand, row by row of the image."""
    if states.dim() == 3:
        return states
    height, width = states.shape[2:]
    return torch.stack([states[:, :, y, x] for y in range(height) for x in range(width)], dim=1)


@pytest.mark.parametrize("name", MAKERS)
def test_feature_maps_are_read_by_column_or_channel(name):
    model = image_model(name).eval()
    with torch.no_grad():
        expected = model(**image_batch(), output_hidden_states=True).hidden_states
        with layer_tap(model, [1, 2], stop=False) as states:
            model(**image_batch())
    assert layer_count(model.config) == len(layers_of(model)) == 2
    for layer in (1, 2):
        states_BTH = states[layer]
        assert states_BTH.shape[-1] == hidden_width(model.config, layer)
        torch.testing.assert_close(states_BTH, by_position(expected[layer]), rtol=0, atol=0)
        assert attended_rows(states_BTH, None).shape == (
            states_BTH.shape[0] * states_BTH.shape[1],
            states_BTH.shape[2],
        )


@pytest.mark.parametrize("name", MAKERS)
def test_later_stages_are_not_computed_and_leave_the_gradient_of_an_early_exit(name):
    model = image_model(name).eval()
    ran = [0, 0]
    for index, layer in enumerate(layers_of(model)):
        layer.register_forward_pre_hook(lambda *_, index=index: ran.__setitem__(index, ran[index] + 1))
    gradients = []
    for stop in (True, False):
        model.zero_grad()
        with layer_tap(model, [1], stop=stop) as states:
            returned = model(**image_batch())
        if stop:
            assert ran == [1, 0]
            assert returned is states[1]
        states[1].square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])


def test_stages_of_several_widths_are_not_taken_for_one_width():
    assert [hidden_width(resnet_config(), layer) for layer in (1, 2)] == [4, 8]
    assert hidden_width(resnet_config(hidden_sizes=[6, 6])) == 6
    with pytest.raises(ValueError, match=r"ResNetConfig have widths \[4, 8\].*equal hidden_sizes, or pkt"):
        hidden_width(resnet_config())


def test_stages_whose_widths_or_places_nobody_names_are_not_guessed():
    config = SwinConfig(image_size=16, patch_size=2, embed_dim=4, depths=[1, 1], num_heads=[1, 1], window_size=2)
    model = SwinForImageClassification(config)
    with layer_tap(model, [1], stop=True) as states:
        model(**image_batch())
    assert states[1].dim() == 3
    with pytest.raises(ValueError, match="SwinConfig names no hidden_sizes"):
        hidden_width(config, 1)
    model.swin.more = nn.ModuleList([nn.Identity(), nn.Identity()])
    with pytest.raises(ValueError, match="keeps its 2 stages in several lists"):
        layers_of(model)


# ---- rows ----


def test_padding_says_nothing():
    hidden = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    assert attended_rows(hidden, mask).tolist() == [[0, 1], [2, 3], [8, 9]]
    assert attended_rows(hidden, None).shape == (6, 2)
    assert attended_rows(hidden[:, 0], mask).shape == (2, 2)


@pytest.mark.parametrize(
    ("hidden", "mask"), [((2, 5, 2), (2, 3)), ((2, 3, 4, 4), None), ((2, 3, 2), (2, 1, 3, 3))], ids=str
)
def test_states_that_do_not_fit_the_mask_are_refused(hidden, mask):
    with pytest.raises(ValueError, match="compares logits only"):
        attended_rows(torch.zeros(hidden), None if mask is None else torch.ones(mask))


# ---- engines ----


class Engine(Accelerator):
    """An accelerator that says it runs under another engine, as far as the check can see."""

    def __init__(self, engine: DistributedType, processes: int, find_unused: bool) -> None:
        super().__init__(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused)])
        self._engine, self._processes = engine, processes

    @property
    def distributed_type(self) -> DistributedType:
        return self._engine

    @property
    def num_processes(self) -> int:
        return self._processes


@pytest.mark.parametrize("engine", [DistributedType.DEEPSPEED, DistributedType.FSDP])
def test_engines_that_shard_are_refused(engine):
    with pytest.raises(ValueError, match=f"{engine.value} does not follow; train .* DistributedDataParallel"):
        check_early_exit(Engine(engine, 2, True))


def test_ddp_that_waits_for_every_gradient_is_refused_before_it_hangs():
    with pytest.raises(ValueError, match="set ddp_find_unused_parameters: true"):
        check_early_exit(Engine(DistributedType.MULTI_CPU, 2, False))
    assert check_early_exit(Engine(DistributedType.MULTI_CPU, 2, True)) is None
    assert check_early_exit(Engine(DistributedType.NO, 1, False)) is None


# ---- an encoder and a decoder ----


def read_by_decoder() -> dict[str, torch.Tensor]:
    return {**batch(), "decoder_input_ids": batch()["input_ids"][:, :5]}


@pytest.mark.parametrize("in_decoder", [LAYERS, 4, 1], ids=["as many", "more", "fewer"])
@pytest.mark.parametrize("name", ["t5", "marian", "bart"])
def test_the_layers_of_the_decoder_are_not_taken_for_the_encoders(name, in_decoder):
    key = "num_decoder_layers" if name == "t5" else "decoder_layers"
    model = tiny_seq2seq(name, layers=LAYERS, **{key: in_decoder}).eval()
    assert layers_of(model) is (model.encoder.block if name == "t5" else model.model.encoder.layers)
    assert layer_count(model.config) == LAYERS
    assert hidden_width(model.config) == 16
    with torch.no_grad(), layer_tap(model, range(1, LAYERS + 1), stop=False) as states:
        expected = model(**read_by_decoder(), output_hidden_states=True).encoder_hidden_states
    for layer in range(1, LAYERS):
        assert torch.equal(states[layer], expected[layer]), layer
    last = model.encoder.final_layer_norm(states[LAYERS]) if name == "t5" else states[LAYERS]
    assert torch.equal(last, expected[LAYERS])


@pytest.mark.parametrize("name", ["t5", "marian", "bart"])
def test_an_early_exit_runs_no_decoder_and_leaves_the_encoders_gradient(name):
    model = tiny_seq2seq(name, layers=LAYERS).eval()
    decoded: list[int] = []
    model.get_decoder().register_forward_hook(lambda *_: decoded.append(1))
    gradients = []
    for stop in (True, False):
        model.zero_grad()
        with layer_tap(model, [2], stop=stop) as states:
            returned = model(**read_by_decoder())
        assert (returned is states[2]) == stop
        states[2].square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert len(decoded) == 1
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])
