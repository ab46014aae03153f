"""One forward, and only what is wanted of it."""

from __future__ import annotations

import pytest
import torch
from builders import examples, tiny_model

from hf_distill.reading.model_reading import Reading, Wanted, read_model


def batch(head: str) -> dict[str, torch.Tensor]:
    items = examples(head, count=4)
    return {key: torch.stack([item[key] for item in items]) for key in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm", "classification"])
def test_layers_are_those_of_output_hidden_states_before_a_final_norm(head):
    model = tiny_model(head, attn_implementation="eager").eval()
    reading = read_model(lambda **more: model(**batch(head), **more), model, layers=(1, 2), attentions=True)
    full = model(**batch(head), output_hidden_states=True, output_attentions=True)
    assert torch.equal(reading.logits, full.logits)
    torch.testing.assert_close(reading.hidden[1], full.hidden_states[1])
    last = model.transformer.ln_f(reading.hidden[2]) if head == "causal_lm" else reading.hidden[2]
    torch.testing.assert_close(last, full.hidden_states[2])
    assert all(torch.equal(one, other) for one, other in zip(reading.attentions, full.attentions, strict=True))


def test_what_nobody_wants_is_not_computed():
    model, asked = tiny_model("masked_lm"), []

    def call(**more):
        asked.append(more)
        output = model(**batch("masked_lm"), **more)
        assert output.hidden_states is None
        assert output.attentions is None
        return output

    reading = read_model(call, model, layers=(2,))
    assert asked == [{}]
    assert list(reading.hidden) == [2]
    assert read_model(call, model).hidden == {}


def test_a_layer_that_does_not_exist_is_refused():
    model = tiny_model("masked_lm")
    with pytest.raises(ValueError, match=r"layers \[3\] asked for, but BertForMaskedLM has layers 1 to 2"):
        read_model(lambda **more: model(**batch("masked_lm"), **more), model, layers=(3,))


def test_a_repeated_batch_is_parted_everywhere_alike():
    whole = Reading(torch.arange(6.0).view(6, 1), {2: torch.arange(12.0).view(6, 2, 1)}, (torch.arange(6.0),))
    parts = whole.chunk(3)
    assert [part.logits.flatten().tolist() for part in parts] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert parts[1].hidden[2].flatten().tolist() == [4.0, 5.0, 6.0, 7.0]
    assert parts[2].attentions[0].tolist() == [4.0, 5.0]


def test_layers_or_attentions_are_something():
    assert not Wanted().anything
    assert Wanted(student=(1,), teacher=(2,)).anything
    assert Wanted(attentions=True).anything
