from __future__ import annotations

import pytest
from student_cases import teacher_of
from transformers import BertConfig, GPT2Config, T5Config

from hf_distill.reading.extractor import uniform_map
from hf_distill.student_making.cut import LayerRule, StudentCut
from hf_distill.student_making.layer_choice import choose_layers, kept_layers


@pytest.mark.parametrize(
    ("rule", "there", "kept"),
    [
        (None, 3, [1, 2, 3]),
        (LayerRule("first", 2), 6, [1, 2]),
        (LayerRule("last", 2), 6, [5, 6]),
        (LayerRule("spaced", 3), 6, [2, 4, 6]),
        (LayerRule("spaced", 3), 12, [4, 8, 12]),
        (LayerRule("spaced", 1), 12, [12]),
        (LayerRule("spaced", 4), 6, [2, 3, 4, 6]),
        (LayerRule(None, 3, (1, 2, 5)), 6, [1, 2, 5]),
    ],
)
def test_rules_keep_these_layers(rule, there, kept):
    assert choose_layers(rule, there) == kept


def test_spaced_layers_never_repeat_and_are_those_that_uniform_objectives_compare():
    for there in range(1, 40):
        for count in range(1, there + 1):
            kept = choose_layers(LayerRule("spaced", count), there)
            assert len(set(kept)) == count
            assert kept == sorted(kept)
            assert kept == [pair.teacher for pair in uniform_map(count, there)]


def test_the_layers_worth_most_stay_in_their_order():
    assert choose_layers(LayerRule("cka", 2), 4, worth=[0.1, 0.9, 0.2, 0.8]) == [2, 4]
    assert choose_layers(LayerRule("sensitivity", 3), 4, worth=[5.0, 1.0, 1.0, 1.0]) == [1, 2, 3]


def test_before_there_is_data_as_many_layers_stand_in():
    config = teacher_of("bert").config
    assert kept_layers(config, StudentCut(layers="cka:2")) == {"layers": [2, 4]}
    scores = {"cka": {"layers": [9.0, 8.0, 0.0, 0.0]}}
    assert kept_layers(config, StudentCut(layers="cka:2"), scores) == {"layers": [1, 2]}


def test_encoder_and_decoder_are_cut_apart():
    config = T5Config(num_layers=6, num_decoder_layers=3)
    assert kept_layers(config, StudentCut(layers="spaced:3")) == {"encoder": [2, 4, 6], "decoder": [1, 2, 3]}
    cut = StudentCut(layers="last:1", decoder_layers=[2])
    assert kept_layers(config, cut) == {"encoder": [6], "decoder": [2]}
    with pytest.raises(ValueError, match=r"^layers: asks for 4 layers of the decoder, but there are 3"):
        kept_layers(config, StudentCut(layers="first:4"))
    with pytest.raises(ValueError, match=r"^decoder_layers: asks for 4 layers of the decoder, but there are 3"):
        kept_layers(config, StudentCut(decoder_layers="first:4"))


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"^layers: asks for 7 layers, but there are 6"):
        kept_layers(BertConfig(num_hidden_layers=6), StudentCut(layers=[1, 7]))


def test_a_decoder_is_not_asked_of_one_stack():
    with pytest.raises(ValueError, match=r"^decoder_layers: a 'bert' model has one stack of layers"):
        kept_layers(BertConfig(), StudentCut(decoder_layers="first:1"))


def test_layers_whose_attention_depends_on_their_place_stay_in_it():
    config = GPT2Config(n_layer=4, scale_attn_by_inverse_layer_idx=True)
    assert kept_layers(config, StudentCut(layers="first:2")) == {"layers": [1, 2]}
    with pytest.raises(ValueError, match=r"scale_attn_by_inverse_layer_idx.*write first:2"):
        kept_layers(config, StudentCut(layers="last:2"))
