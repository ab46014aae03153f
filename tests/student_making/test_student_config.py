from __future__ import annotations

import pytest
from student_cases import teacher_of
from transformers import AutoConfig, GPT2Config, LlamaConfig, ViTConfig

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.student_config import student_config


def changed(config, cut: StudentCut) -> dict:
    before, now = config.to_dict(), student_config(config, cut).to_dict()
    return {key: now[key] for key in now if now[key] != before.get(key)}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("bert", {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}),
        ("distilbert", {"n_layers": 2, "dim": 8, "n_heads": 2, "hidden_dim": 12}),
        ("gpt2", {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_inner": 12}),
    ],
)
def test_sizes_change_under_the_familys_own_names_and_nothing_else_does(name, keys):
    cut = StudentCut(layers="last:2", hidden_size=8, intermediate_size=12)
    assert changed(teacher_of(name).config, cut) == keys


def test_an_encoder_decoder_names_both_stacks():
    cut = StudentCut(layers="first:2", decoder_layers="first:1", hidden_size=8, intermediate_size=12)
    assert changed(teacher_of("marian").config, cut) == {
        "encoder_layers": 2,
        "decoder_layers": 1,
        "d_model": 8,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12,
    }
    assert changed(teacher_of("t5").config, StudentCut(num_attention_heads=1)) == {"num_heads": 1}


def test_neurons_that_follow_from_the_width_stay_when_the_width_is_cut():
    config = GPT2Config(n_embd=16, n_head=2, n_layer=2)
    assert changed(config, StudentCut(hidden_size=8)) == {"n_embd": 8, "n_head": 1, "n_inner": 64}
    assert changed(config, StudentCut(layers="first:1")) == {"n_layer": 1}


def test_a_size_of_heads_that_follows_from_the_width_stays_when_the_width_is_cut(tmp_path):
    config = teacher_of("qwen2").config
    assert changed(config, StudentCut(hidden_size=8)) == {"hidden_size": 8, "head_dim": 4}
    student_config(config, StudentCut(hidden_size=8)).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).head_dim == 4
    assert changed(config, StudentCut(intermediate_size=8)) == {"intermediate_size": 8}
    assert changed(config, StudentCut(num_attention_heads=2)) == {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }


def test_what_transformers_refuses_is_said_with_the_sizes():
    config = LlamaConfig(hidden_size=16, num_attention_heads=4, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"LlamaConfig refuses .*num_attention_heads 3.*not a multiple"):
        student_config(config, StudentCut(num_attention_heads=3))


def test_an_architecture_that_cannot_be_cut_is_refused_with_those_that_can():
    with pytest.raises(ValueError, match=r"'vit' model.*bert, roberta.*marian.*`architecture`"):
        student_config(ViTConfig(), StudentCut(layers="first:2"))
