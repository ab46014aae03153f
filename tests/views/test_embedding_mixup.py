"""Each model gets its own embeddings of both texts, by one share, where both texts are."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model
from view_cases import context_of, text_batch, view_of

from hf_distill.views import ModelOfView
from hf_distill.views.embedding_mixup import EmbeddingMixup
from hf_distill.views.mixing import draw_partners, draw_share

ACCEPTED = frozenset({"input_ids", "inputs_embeds", "attention_mask", "labels"})
WIDE = {"causal_lm": {"n_embd": 32}}


@pytest.mark.parametrize("head", sorted(EmbeddingMixup.heads))
def test_embeddings_are_those_of_both_texts(head):
    batch = text_batch(head)
    torch.manual_seed(3)
    share, partners = draw_share(1.0), draw_partners(6)
    torch.manual_seed(3)
    view = view_of("embedding_mixup")
    augmented = view.augment(batch, context_of(head))
    for model in (tiny_model(head), tiny_model(head, seed=2, **WIDE.get(head, {"hidden_size": 32}))):
        read = view.inputs_for(augmented, ModelOfView("student", model, ACCEPTED))
        assert set(read) == {"inputs_embeds", *batch.keys() - {"input_ids"}}
        own = model.get_input_embeddings()(batch["input_ids"])
        both = (batch["attention_mask"] * batch["attention_mask"][partners]).bool()
        expected = torch.where(both[..., None], share * own + (1 - share) * own[partners], own)
        torch.testing.assert_close(read["inputs_embeds"], expected, rtol=1e-5, atol=1e-6)
        assert both.any() and not both.all()


def test_the_students_embeddings_get_a_gradient():
    view, model = view_of("embedding_mixup"), tiny_model("masked_lm")
    augmented = view.augment(text_batch("masked_lm"), context_of("masked_lm"))
    view.inputs_for(augmented, ModelOfView("student", model, ACCEPTED))["inputs_embeds"].sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_model_that_takes_no_embeddings_is_given_none():
    view, model = view_of("embedding_mixup"), tiny_model("masked_lm")
    augmented = view.augment(text_batch("masked_lm"), context_of("masked_lm"))
    with pytest.raises(ValueError, match="to the teacher, but BertForMaskedLM takes no `inputs_embeds`; use token_cu"):
        view.inputs_for(augmented, ModelOfView("teacher", model, frozenset({"input_ids"})))
