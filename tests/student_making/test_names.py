from __future__ import annotations

import pytest
from student_cases import LAYERS, teacher_of
from transformers import T5Config, T5ForTokenClassification

from hf_distill.student_making.families import family_of
from hf_distill.student_making.names import WeightName, layers_at


@pytest.mark.parametrize(
    ("name", "key", "parts"),
    [
        ("bert", "bert.encoder.layer.2.output.dense.bias", ("bert.", "layers", 3, "output.dense.bias")),
        ("bert", "cls.predictions.bias", ("", None, None, "cls.predictions.bias")),
        ("gpt2", "transformer.wte.weight", ("transformer.", None, None, "wte.weight")),
        ("t5", "decoder.block.0.layer.2.layer_norm.weight", ("", "decoder", 1, "layer.2.layer_norm.weight")),
        ("marian", "model.encoder.layers.3.fc1.bias", ("model.", "encoder", 4, "fc1.bias")),
    ],
)
def test_names_are_taken_apart_and_put_together(name, key, parts):
    teacher = teacher_of(name)
    family = family_of(teacher.config)
    assert key in teacher.state_dict()
    found = WeightName.of(key, teacher, family)
    assert tuple(found) == parts
    if found.stack is not None:
        assert found.at(found.layer, family.stacks[found.stack]) == key


def test_a_model_without_a_stack_has_no_layers_there():
    model = T5ForTokenClassification(
        T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=8, num_layers=LAYERS, num_heads=2)
    )
    stacks = family_of(model.config).stacks
    assert len(layers_at(model, stacks["encoder"])) == LAYERS
    assert layers_at(model, stacks["decoder"]) == []
