from __future__ import annotations

import pytest
from student_cases import ALL, TEACHERS, teacher_of
from transformers import GPT2Config, LlamaConfig, MarianConfig, Qwen3Config, T5Config

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.sizes import narrowed_sizes, sizes_of, widths_of


@pytest.mark.parametrize("name", TEACHERS)
def test_the_sizes_of_every_family_are_read(name):
    widths = widths_of(sizes_of(teacher_of(name).config))
    assert {key: widths[key] for key in ALL} == ALL


def test_sizes_that_a_configuration_leaves_open_are_filled_in():
    assert sizes_of(GPT2Config(n_embd=16, n_head=2)).stacks["layers"].neurons == 64
    qwen = sizes_of(Qwen3Config(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32))
    assert (qwen.stacks["layers"].head, qwen.stacks["layers"].group) == (32, 2)
    assert sizes_of(LlamaConfig(hidden_size=64, num_attention_heads=4)).stacks["layers"].head == 16


@pytest.mark.parametrize(
    ("name", "cut", "widths"),
    [
        ("bert", {"hidden_size": 8}, (8, 2)),
        ("bert", {"num_attention_heads": 1}, (4, 1)),
        ("bert", {"hidden_size": 12, "num_attention_heads": 3}, (12, 3)),
        ("marian", {"num_attention_heads": 2}, (8, 2)),
        ("qwen3", {"hidden_size": 6}, (6, 4)),
        ("llama", {"num_attention_heads": 2}, (16, 2)),
        ("t5", {"num_attention_heads": 3, "hidden_size": 5}, (5, 3)),
    ],
)
def test_heads_keep_their_size(name, cut, widths):
    config = teacher_of(name).config
    before, now = sizes_of(config), narrowed_sizes(config, StudentCut(**cut))
    for key, stack in now.stacks.items():
        assert (now.hidden, stack.heads) == widths
        assert stack.head == before.stacks[key].head
        assert stack.group == before.stacks[key].group


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("bert", {"hidden_size": 10}, r"^hidden_size: 10 is no multiple of 4.*Choose one of 4, 8, 12, 16$"),
        ("gpt2", {"hidden_size": 8, "num_attention_heads": 3}, r"^num_attention_heads: 3 heads of size 4.*give 2"),
        ("bert", {"num_attention_heads": 2, "hidden_size": 16}, r"^num_attention_heads: 2 heads of size 4.*give 4"),
        ("bert", {"hidden_size": 32}, r"^hidden_size: a student is cut out of its teacher, which has 16; 32 is more"),
        ("t5", {"intermediate_size": 33}, r"^intermediate_size: .* has 32; 33 is more"),
        ("qwen2", {"num_attention_heads": 8}, r"^num_attention_heads: .* has 4; 8 is more"),
        (
            "qwen2",
            {"num_attention_heads": 3},
            r"^num_attention_heads: 3 would tear apart groups of 2.*multiple of 2 up",
        ),
        ("marian", {"hidden_size": 12}, r"^hidden_size: 12 does not divide 16.*Choose one of 8, 4, 2$"),
    ],
)
def test_widths_that_cannot_be_cut_are_refused_with_those_that_can(name, cut, message):
    with pytest.raises(ValueError, match=message):
        narrowed_sizes(teacher_of(name).config, StudentCut(**cut))


def test_encoder_and_decoder_may_have_other_heads():
    config = MarianConfig(d_model=16, encoder_attention_heads=4, decoder_attention_heads=2)
    now = narrowed_sizes(config, StudentCut(hidden_size=8))
    assert {name: stack.heads for name, stack in now.stacks.items()} == {"encoder": 2, "decoder": 1}
    with pytest.raises(ValueError, match=r"^hidden_size: 4 is no multiple of 4 and 8"):
        narrowed_sizes(config, StudentCut(hidden_size=4))


def test_other_sizes_stay():
    config = T5Config(d_model=64, d_kv=8, num_heads=4, d_ff=128)
    assert narrowed_sizes(config, StudentCut(layers="first:1")) == sizes_of(config)
