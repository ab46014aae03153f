from __future__ import annotations

from pathlib import Path

import pytest
import torch
from student_cases import ALL, LAYERS, OWN_HEAD_SIZE, TEACHERS, inputs_of, logits_by_hand, logits_of, teacher_of
from tiers import mostly_slow
from transformers import PreTrainedModel

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import make_student
from hf_distill.student_making.slicing import student_state
from hf_distill.student_making.units import KeptUnits

EXACT = {"rtol": 1e-9, "atol": 1e-9}
"""In float64: sums in another order."""
SUMS_IN_FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
"""The RMS norms of Llama and T5 add up in float32, whatever comes in."""
every_family = pytest.mark.parametrize(
    "name", mostly_slow(TEACHERS, quick=lambda name: name in ("distilbert", "gpt2", "qwen3", "marian"))
)


def student_of(teacher: PreTrainedModel, **cut) -> PreTrainedModel:
    return make_student(teacher, StudentCut(**cut)).model


@every_family
def test_nothing_removed_is_the_teacher_bit_for_bit(name):
    teacher = teacher_of(name)
    for cut in ({}, {"layers": f"first:{LAYERS}"}, ALL, {**ALL, "choose": "norm"}):
        student = student_of(teacher, **cut)
        ours, theirs = student.state_dict(), teacher.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), cut
        assert student.config.to_dict() == teacher.config.to_dict()
        assert torch.equal(logits_of(student), logits_of(teacher))


@every_family
@pytest.mark.parametrize(
    ("layers", "kept"),
    [("first:2", [1, 2]), ("last:3", [2, 3, 4]), ("spaced:2", [2, 4]), ([1, 3], [1, 3]), ([3], [3])],
)
def test_logits_of_fewer_layers_are_those_of_the_same_layers_called_by_hand(name, layers, kept):
    teacher = teacher_of(name)
    student = student_of(teacher, layers=layers)
    torch.testing.assert_close(logits_of(student), logits_by_hand(teacher, kept, kept), **EXACT)
    assert not torch.allclose(logits_of(student), logits_of(teacher), atol=1e-3)


@pytest.mark.parametrize("name", ["t5", "gated-t5", "marian"])
def test_a_decoder_can_lose_other_layers_than_its_encoder(name):
    teacher = teacher_of(name)
    student = student_of(teacher, layers=[2, 3, 4], decoder_layers="first:1")
    torch.testing.assert_close(logits_of(student), logits_by_hand(teacher, [2, 3, 4], [1]), **EXACT)
    whole = student_of(teacher, layers=list(range(1, LAYERS + 1)), decoder_layers=[4])
    torch.testing.assert_close(logits_of(whole), logits_by_hand(teacher, range(1, LAYERS + 1), [4]), **EXACT)


def test_the_logits_by_hand_of_all_layers_are_the_teachers():
    for name in TEACHERS:
        teacher = teacher_of(name)
        every = range(1, LAYERS + 1)
        torch.testing.assert_close(logits_by_hand(teacher, every, every), logits_of(teacher), **EXACT)


@every_family
@pytest.mark.parametrize("cut", [{"layers": "spaced:2"}, {"layers": [3], "hidden_size": 8, "intermediate_size": 12}])
def test_plain_transformers_loads_a_saved_student_with_nothing_missing(name, cut, tmp_path: Path):
    teacher = teacher_of(name)
    student = student_of(teacher, **cut, choose="norm")
    student.save_pretrained(tmp_path)
    loaded, info = type(teacher).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits_of(loaded.eval()), logits_of(student))
    assert loaded.config.tie_word_embeddings == teacher.config.tie_word_embeddings
    head, table = loaded.get_output_embeddings(), loaded.get_input_embeddings()
    if head is not None and teacher.config.tie_word_embeddings:
        assert head.weight is table.weight


def output_weights(name: str, layer: int, teacher: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the output weights of a layer's heads and neurons, first axis what writes into the hidden states."""
    state = dict(teacher.named_parameters())
    ends = {
        "heads": ("attention.output.dense", "out_lin", "attn.c_proj", "o_proj", "SelfAttention.o", "attn.out_proj"),
        "cross": ("EncDecAttention.o", "encoder_attn.out_proj"),
        "neurons": ("ffn.lin2", "mlp.c_proj", "mlp.down_proj", "DenseReluDense.wo", "fc2", ".output.dense"),
    }
    found = {}
    for key, weight in state.items():
        stem = key.removesuffix(".weight")
        if key.endswith(".weight") and f".{layer}." in key:
            kind = next((kind for kind, names in ends.items() if stem.endswith(names) and _fits(kind, stem)), None)
            if kind is not None:
                turned = weight if "gpt2" in name else weight.T
                found[f"{kind} {key}"] = turned
    return found


def _fits(kind: str, stem: str) -> bool:
    if kind == "neurons":
        return not stem.endswith("attention.output.dense")
    return (kind == "cross") == ("encoder_attn" in stem or "EncDec" in stem)


@every_family
@pytest.mark.parametrize("choose", ["first", "norm"])
def test_neurons_whose_output_is_zero_can_go_without_a_trace(name, choose):
    teacher = teacher_of(name)
    silent = torch.arange(8, 32) if choose == "first" else torch.arange(32)[torch.arange(32) % 4 != 1]
    with torch.no_grad():
        for layer in range(LAYERS):
            outputs = [
                weight for key, weight in output_weights(name, layer, teacher).items() if key.startswith("neurons")
            ]
            assert outputs
            for weight in outputs:
                weight[silent] = 0.0
                # By norm, the neurons that say something must be the larger ones.
                weight[[place for place in range(32) if place not in silent]] *= 10.0
    student = student_of(teacher, intermediate_size=8, choose=choose)
    torch.testing.assert_close(logits_of(student), logits_of(teacher), **EXACT)


@pytest.mark.parametrize("name", OWN_HEAD_SIZE)
@pytest.mark.parametrize("choose", ["first", "norm"])
def test_heads_whose_output_is_zero_can_go_without_a_trace(name, choose):
    teacher = teacher_of(name)
    heads, silent = 4, [2, 3] if choose == "first" else [0, 1]
    with torch.no_grad():
        for layer in range(LAYERS):
            for key, weight in output_weights(name, layer, teacher).items():
                if not key.startswith("neurons"):
                    size = weight.shape[0] // heads
                    for head in range(heads):
                        weight[head * size : (head + 1) * size] *= 0.0 if head in silent else 10.0
    student = student_of(teacher, num_attention_heads=2, choose=choose)
    torch.testing.assert_close(logits_of(student), logits_of(teacher), **EXACT)


@every_family
def test_units_in_another_order_say_the_same(name):
    """What reads or writes a unit under a wrong name would read or write another one."""
    teacher = teacher_of(name)
    stacks = ("encoder", "decoder") if teacher.config.is_encoder_decoder else ("layers",)
    layers = {stack: list(range(1, LAYERS + 1)) for stack in stacks}
    groups = 2 if name in ("llama", "mistral", "qwen2", "qwen3") else 4
    order = {stack: torch.randperm(groups) for stack in stacks}
    inside = {}
    for place in ((stack, layer) for stack in stacks for layer in layers[stack]):
        shared = order[place[0]] if name.endswith("t5") else torch.randperm(groups)
        inside |= {(*place, "q"): shared, (*place, "x"): torch.randperm(groups), (*place, "f"): torch.randperm(32)}
    state = student_state(teacher, layers, KeptUnits(torch.randperm(16), inside))
    again = teacher_of(name)
    again.load_state_dict(state)
    assert not torch.equal(again.get_input_embeddings().weight, teacher.get_input_embeddings().weight)
    torch.testing.assert_close(logits_of(again), logits_of(teacher), **SUMS_IN_FLOAT32)


READERS = (
    "query.weight",
    "key.weight",
    "value.weight",
    "intermediate.dense.weight",
    "pooler.dense.weight",
    "classifier.weight",
)


def test_hidden_units_that_nobody_reads_can_go_where_the_norms_do_not_notice():
    """Copies of the units that stay leave mean and variance as they are."""
    teacher = teacher_of("bert-classifier")
    with torch.no_grad():
        for key, weight in teacher.named_parameters():
            writes_rows = key.endswith(("output.dense.weight",)) or "embeddings.word" in key
            if "_embeddings" in key:
                weight[:, 8:] = weight[:, :8]
            elif "LayerNorm" in key or key.endswith("output.dense.bias"):
                weight[8:] = weight[:8]
            elif writes_rows:
                weight[8:] = weight[:8]
                if "attention" in key:
                    weight[:, 8:] = 0.0
            elif key.endswith(READERS):
                weight[:, 8:] = 0.0
    student = student_of(teacher, hidden_size=8)
    assert student.config.num_attention_heads == 2
    torch.testing.assert_close(logits_of(student), logits_of(teacher), **EXACT)


def test_the_first_layer_of_a_narrow_marian_reads_the_teachers_own_states():
    """transformers computes the positions anew for a width, and multiplies the embeddings by its root."""
    teacher = teacher_of("marian")
    student = student_of(teacher, hidden_size=8)
    seen = {}
    for key, model in (("teacher", teacher), ("student", student)):
        layer = model.model.encoder.layers[0]
        layer.register_forward_pre_hook(lambda module, inputs, key=key: seen.update({key: inputs[0]}))
        logits_of(model)
    torch.testing.assert_close(seen["student"], seen["teacher"][..., ::2], **EXACT)
    fresh = type(student)(student.config).model.encoder.embed_positions.weight
    assert torch.equal(fresh.double(), student.model.encoder.embed_positions.weight)


def test_the_teacher_stays_as_it_is_and_shares_nothing():
    teacher = teacher_of("qwen2").train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    state = torch.get_rng_state()
    student = student_of(teacher, **ALL)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert student.training


def test_each_layer_keeps_its_kind_of_attention():
    teacher = teacher_of("qwen2", use_sliding_window=True, sliding_window=3, max_window_layers=2)
    student = student_of(teacher, layers=[1, 3])
    assert student.config.layer_types == ["full_attention", "sliding_attention"]
    types = teacher.config.layer_types
    assert types == ["full_attention"] * 2 + ["sliding_attention"] * 2
    assert student_of(teacher, layers=[2, 4]).config.layer_types == student.config.layer_types


def test_settings_of_generation_are_kept(tmp_path: Path):
    teacher = teacher_of("marian")
    teacher.generation_config.num_beams = 3
    student = student_of(teacher, layers="first:1")
    assert student.generation_config.num_beams == 3
    assert student.generation_config is not teacher.generation_config
    student.save_pretrained(tmp_path)
    assert type(student).from_pretrained(tmp_path).generation_config.num_beams == 3


def test_a_number_format_is_kept():
    teacher = teacher_of("llama").to(torch.bfloat16)
    student = student_of(teacher, layers="first:1", hidden_size=8)
    assert {parameter.dtype for parameter in student.parameters()} == {torch.bfloat16}


def test_layers_that_do_nothing_are_those_that_data_leaves_out():
    teacher = teacher_of("llama", attention_bias=False, mlp_bias=False)
    with torch.no_grad():
        for place in (0, 2):
            teacher.model.layers[place].self_attn.o_proj.weight.zero_()
            teacher.model.layers[place].mlp.down_proj.weight.zero_()
    batches = [{**inputs_of(teacher, seed=seed)} for seed in range(3)]
    batches = [{**batch, "labels": batch["input_ids"]} for batch in batches]
    for how in ("cka", "sensitivity"):
        made = make_student(teacher, StudentCut(layers=f"{how}:2"), batches=batches)
        assert made.origin.layers == {"layers": [2, 4]}
        torch.testing.assert_close(logits_of(made.model), logits_of(teacher), **EXACT)


def test_the_origin_says_what_was_kept():
    made = make_student(teacher_of("t5"), StudentCut(layers="spaced:2", num_attention_heads=2, choose="norm"))
    origin = made.origin
    assert (origin.architecture, origin.model_type) == ("T5ForConditionalGeneration", "t5")
    assert origin.layers == {"encoder": [2, 4], "decoder": [2, 4]}
    assert origin.widths == {
        "hidden_size": [16, 16],
        "num_attention_heads": [4, 2],
        "intermediate_size": [32, 32],
    }
    assert origin.parameters == sum(parameter.numel() for parameter in made.model.parameters())
    assert origin.teacher_parameters == sum(parameter.numel() for parameter in teacher_of("t5").parameters())
    assert origin.cut["layers"] == "spaced:2"


def test_a_choice_by_data_without_data_is_refused():
    with pytest.raises(ValueError, match="the data is empty"):
        make_student(teacher_of("bert"), StudentCut(layers="cka:2"))


def test_weights_that_nobody_knows_are_not_cut_but_may_be_kept():
    teacher = teacher_of("gpt2", add_cross_attention=True)
    with pytest.raises(ValueError, match=r"crossattention.*is no weight that is known.*cut `layers` only"):
        student_of(teacher, hidden_size=8)
    assert student_of(teacher, layers="first:2").config.n_layer == 2
