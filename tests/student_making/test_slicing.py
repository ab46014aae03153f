from __future__ import annotations

import torch
from student_cases import teacher_of

from hf_distill.student_making.slicing import student_state
from hf_distill.student_making.units import KeptUnits


def test_layers_move_to_their_new_places_and_all_else_stays():
    teacher = teacher_of("bert")
    state, before = student_state(teacher, {"layers": [2, 4]}), teacher.state_dict()
    for new, old in ((0, 1), (1, 3)):
        key = "bert.encoder.layer.{}.attention.self.query.weight"
        assert torch.equal(state[key.format(new)], before[key.format(old)])
    assert not any(".layer.2." in key for key in state)
    outside = [key for key in before if ".layer." not in key]
    assert all(torch.equal(state[key], before[key]) for key in outside)


def test_the_table_of_positions_goes_to_the_first_layer_that_stays_with_its_heads():
    teacher = teacher_of("t5")
    layers = {"encoder": [3], "decoder": [2, 4]}
    key = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    before = teacher.state_dict()
    state = student_state(teacher, layers)
    assert torch.equal(state[key.format("encoder")], before[key.format("encoder")])
    everything = torch.arange(32)
    inside = {("encoder", 3, letter): torch.tensor([1, 2]) for letter in "qx"}
    inside |= {("decoder", layer, letter): torch.tensor([0, 3]) for layer in (2, 4) for letter in "qx"}
    inside |= {(name, layer, "f"): everything for name in layers for layer in layers[name]}
    narrow = student_state(teacher, layers, KeptUnits(torch.arange(16), inside))
    assert torch.equal(narrow[key.format("encoder")], before[key.format("encoder")][:, [1, 2]])
    assert torch.equal(narrow[key.format("decoder")], before[key.format("decoder")][:, [0, 3]])
    rows = narrow["decoder.block.1.layer.1.EncDecAttention.k.weight"]
    whole = before["decoder.block.3.layer.1.EncDecAttention.k.weight"]
    assert torch.equal(rows, torch.cat([whole[:8], whole[24:]]))


def test_the_fused_weights_of_a_gpt2_are_cut_in_all_three_parts():
    teacher = teacher_of("gpt2")
    inside = {("layers", 1, "q"): torch.tensor([0, 2]), ("layers", 1, "f"): torch.tensor([5])}
    state = student_state(teacher, {"layers": [1]}, KeptUnits(torch.tensor([1, 3]), inside))
    whole = teacher.transformer.h[0].attn.c_attn.weight
    heads = [0, 1, 2, 3, 8, 9, 10, 11]
    columns = [*heads, *(16 + place for place in heads), *(32 + place for place in heads)]
    assert torch.equal(state["transformer.h.0.attn.c_attn.weight"], whole[[1, 3]][:, columns])
    assert torch.equal(
        state["transformer.h.0.mlp.c_proj.weight"], teacher.transformer.h[0].mlp.c_proj.weight[[5]][:, [1, 3]]
    )


def test_keys_and_values_are_cut_with_the_heads_that_share_them():
    teacher = teacher_of("qwen3")
    inside = {("layers", 2, "q"): torch.tensor([1]), ("layers", 2, "f"): torch.arange(32)}
    state = student_state(teacher, {"layers": [2]}, KeptUnits(torch.arange(16), inside))
    attention = teacher.model.layers[1].self_attn
    assert torch.equal(state["model.layers.0.self_attn.k_proj.weight"], attention.k_proj.weight[8:])
    assert torch.equal(state["model.layers.0.self_attn.q_proj.weight"], attention.q_proj.weight[16:])
    assert torch.equal(state["model.layers.0.self_attn.o_proj.weight"], attention.o_proj.weight[:, 16:])
    assert torch.equal(state["model.layers.0.self_attn.q_norm.weight"], attention.q_norm.weight)


def test_embeddings_that_are_multiplied_by_the_root_of_the_width_make_up_for_the_smaller_one():
    layers = {"encoder": [1], "decoder": [1]}
    inside = {(name, 1, letter): torch.arange(2) for name in layers for letter in "qx"}
    inside |= {(name, 1, "f"): torch.arange(32) for name in layers}
    units = KeptUnits(torch.arange(0, 16, 2), inside)
    for scaled in (True, False):
        teacher = teacher_of("marian", scale_embedding=scaled)
        state = student_state(teacher, layers, units)
        factor = 2**0.5 if scaled else 1.0
        table = teacher.model.shared.weight[:, ::2] * factor
        for key in ("model.shared.weight", "lm_head.weight", "model.decoder.embed_tokens.weight"):
            torch.testing.assert_close(state[key], table, rtol=1e-12, atol=0)
        assert torch.equal(
            state["model.encoder.embed_positions.weight"], teacher.model.encoder.embed_positions.weight[:, ::2]
        )
