from __future__ import annotations

import pytest
import torch
from student_cases import inputs_of, teacher_of

from hf_distill.analysis.sensitivity import parameter_sensitivity
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.layer_choice import kept_layers
from hf_distill.student_making.sizes import narrowed_sizes
from hf_distill.student_making.units import kept_units, unit_worths


def units(teacher, sensitivity=None, **cut):
    made = StudentCut(**cut)
    layers = kept_layers(teacher.config, made)
    return kept_units(teacher, made, narrowed_sizes(teacher.config, made), layers, sensitivity=sensitivity)


def test_the_first_units_stay_where_nothing_else_is_asked():
    kept = units(teacher_of("llama"), hidden_size=8, num_attention_heads=2, intermediate_size=3, layers=[2])
    assert kept.hidden.tolist() == list(range(8))
    assert {place: numbers.tolist() for place, numbers in kept.inside.items()} == {
        ("layers", 2, "q"): [0],
        ("layers", 2, "x"): [0],
        ("layers", 2, "f"): [0, 1, 2],
    }


def test_worth_is_the_sum_over_all_that_reads_or_writes_a_unit():
    teacher = teacher_of("gpt2")
    found = unit_worths(teacher, {"layers": [1, 2, 3, 4]}, lambda name, values: torch.ones_like(values))
    # Embeddings, positions, last norm; a layer: both norms, what reads (3 · 16, 32), what writes (16, 32).
    layer = 4 + (48 + 32) + (16 + 1) + (32 + 1)
    assert found.hidden.tolist() == [40 + 32 + 2 + 4 * layer] * 16
    assert found.inside["layers", 1, "f"].tolist() == [16 + 1 + 16] * 32
    assert found.inside["layers", 1, "q"].tolist() == [3 * 4 * 17 + 4 * 16] * 4


def test_groups_of_heads_share_their_worth():
    teacher = teacher_of("qwen2")
    found = unit_worths(teacher, {"layers": [1]}, lambda name, values: torch.ones_like(values))
    # Two query heads of size 4 (read, bias, write) and one head of keys and values (read, bias).
    assert found.inside["layers", 1, "q"].tolist() == [8 * 17 + 8 * 16 + 2 * 4 * 17] * 2


def test_tied_weights_count_once():
    tied, untied = teacher_of("gpt2"), teacher_of("gpt2", tie_word_embeddings=False)
    worth = [
        unit_worths(model, {"layers": [1]}, lambda name, values: torch.ones_like(values)).hidden
        for model in (tied, untied)
    ]
    assert (worth[1] - worth[0]).tolist() == [40.0] * 16


def test_layers_that_go_have_no_say():
    teacher = teacher_of("bert")
    with torch.no_grad():
        teacher.bert.encoder.layer[0].intermediate.dense.weight[:, 15] = 100.0
    assert 15 in units(teacher, hidden_size=4, choose="norm").hidden
    assert 15 not in units(teacher, hidden_size=4, choose="norm", layers=[2, 3]).hidden


def test_large_weights_stay_by_norm_and_in_their_order():
    teacher = teacher_of("distilbert")
    with torch.no_grad():
        layer = teacher.distilbert.transformer.layer[1]
        layer.ffn.lin1.weight[[7, 30, 2]] = 50.0
        layer.attention.v_lin.weight[8:12] = 50.0
    kept = units(teacher, intermediate_size=3, num_attention_heads=1, choose="norm")
    assert kept.inside["layers", 2, "f"].tolist() == [2, 7, 30]
    assert kept.inside["layers", 2, "q"].tolist() == [2]


def test_all_layers_of_a_t5_keep_the_heads_of_its_table_of_positions():
    teacher = teacher_of("t5")
    with torch.no_grad():
        teacher.encoder.block[2].layer[0].SelfAttention.q.weight[24:] = 50.0
        teacher.decoder.block[1].layer[1].EncDecAttention.q.weight[8:16] = 50.0
    kept = units(teacher, num_attention_heads=1, choose="norm")
    assert {kept.inside["encoder", layer, "q"].item() for layer in range(1, 5)} == {3}
    assert kept.inside["decoder", 2, "x"].tolist() == [1]


def test_the_hidden_units_of_a_marian_are_those_whose_positions_can_be_computed():
    kept = units(teacher_of("marian"), hidden_size=4, choose="norm")
    assert kept.hidden.tolist() == [0, 4, 8, 12]


def test_units_that_the_loss_does_not_feel_go_by_sensitivity():
    teacher = teacher_of("llama")
    with torch.no_grad():
        # Large weights into neurons that nobody hears: by norm they would stay.
        for layer in teacher.model.layers:
            layer.mlp.up_proj.weight[:16] = 50.0
            layer.mlp.down_proj.weight[:, :16] = 0.0
    batch = inputs_of(teacher)
    raw = parameter_sensitivity(teacher, [batch], lambda one: teacher(**one, labels=one["input_ids"]).loss).raw
    kept = units(teacher, raw, intermediate_size=16, choose="sensitivity")
    assert all(kept.inside["layers", layer, "f"].tolist() == list(range(16, 32)) for layer in range(1, 5))
    by_norm = units(teacher, intermediate_size=16, choose="norm")
    assert by_norm.inside["layers", 1, "f"].tolist() == list(range(16))


def test_a_weight_of_another_shape_is_refused():
    teacher = teacher_of("bert")
    teacher.bert.pooler = None
    teacher.cls.predictions.transform.dense = torch.nn.Linear(16, 15)
    with pytest.raises(ValueError, match=r"transform\.dense\.weight has shape \(15, 16\) where \(16, 16\)"):
        units(teacher, hidden_size=8, choose="norm")
