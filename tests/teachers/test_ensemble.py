from __future__ import annotations

import pytest
import torch
from builders import HEADS, answer_of, distill_trainer, flat_weights, tiny_model
from source_cases import batch_of

from hf_distill.reading.signals import select_rows
from hf_distill.teachers import EnsembleTeacher


def models(head: str, count: int = 3) -> list:
    return [tiny_model(head, seed=seed).eval() for seed in range(10, 10 + count)]


def answers_of(members: list, batch: dict) -> list[torch.Tensor]:
    return [answer_of(model, batch).double() for model in members]


def attached(members: list, head: str, **settings) -> EnsembleTeacher:
    source = EnsembleTeacher(members, **settings)
    source.attach(head=head, accelerator=None)
    source.enter(0)
    return source


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
@pytest.mark.parametrize("weights", [None, [5, 3, 2]])
def test_the_target_is_the_mixture_of_what_the_members_say(head, weights):
    members, batch = models(head), batch_of(4, head=head)
    source = attached(members, head, weights=weights)
    shares = torch.tensor(weights or [1, 1, 1], dtype=torch.float64)
    shares = shares / shares.sum()
    mixture = sum(share * z.softmax(-1) for share, z in zip(shares, answers_of(members, batch), strict=True))
    torch.testing.assert_close(source.logits(batch).double().exp(), mixture, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("head", HEADS)
def test_the_mean_of_logits_is_the_mean_of_logits(head):
    members, batch = models(head), batch_of(4, head=head)
    source = attached(members, head, weights=[2, 1, 1], average="logits")
    mean = sum(share * z for share, z in zip((0.5, 0.25, 0.25), answers_of(members, batch), strict=True))
    torch.testing.assert_close(source.logits(batch).double(), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_rows_that_count_are_those_of_the_whole_answer(head, average):
    if head == "regression" and average == "probabilities":
        average = "logits"
    batch = batch_of(4, head=head)
    source, rows = attached(models(head), head, average=average), select_rows(head, batch)
    torch.testing.assert_close(source.row_logits(batch, rows), rows.of(source.logits(batch)), rtol=1e-5, atol=1e-6)


def test_the_mean_of_logits_is_the_normalised_geometric_mean_of_probabilities():
    members, batch = models("classification"), batch_of()
    source = attached(members, "classification", average="logits")
    product = torch.stack([z.softmax(-1) for z in answers_of(members, batch)]).prod(0) ** (1 / 3)
    torch.testing.assert_close(source.logits(batch).double().softmax(-1), product / product.sum(-1, keepdim=True))


def test_a_member_certain_of_what_the_others_exclude_is_heard():
    """Averaging log-probabilities instead would let the excluding members veto it."""
    members = models("classification", 2)
    for sign, model in zip((1, -1), members, strict=True):
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(sign * torch.tensor([200.0, -200.0, 0.0]))
    said = attached(members, "classification").logits(batch_of(1)).exp()[0]
    torch.testing.assert_close(said, torch.tensor([0.5, 0.5, 0.0]))


def test_one_member_with_the_mean_of_logits_is_that_teacher_bitwise(tmp_path):
    ends = []
    for name, teacher in (("alone", tiny_model("classification", seed=7)), ("ensemble", None)):
        teacher = teacher or EnsembleTeacher([tiny_model("classification", seed=7)], average="logits")
        trainer = distill_trainer(tmp_path / name, teacher=teacher)
        trainer.train()
        ends.append(flat_weights(trainer.model))
    assert torch.equal(*ends)


def test_the_same_member_twice_is_that_member():
    member, batch = tiny_model("masked_lm", seed=3), batch_of(2, head="masked_lm")
    once, twice = (attached([member] * count, "masked_lm").logits(batch) for count in (1, 2))
    torch.testing.assert_close(once, twice)


def test_half_precision_members_are_averaged_in_float32():
    members, batch = models("classification", 2), batch_of()
    exact = attached(members, "classification").logits(batch)
    halves = attached([model.to(torch.bfloat16) for model in members], "classification").logits(batch)
    assert halves.dtype == exact.dtype == torch.float32
    torch.testing.assert_close(halves, exact, rtol=0.1, atol=0.05)


def test_probabilities_of_a_regression_head_are_refused():
    with pytest.raises(ValueError, match="a regression head gives no probabilities to average; use average: logits"):
        attached(models("regression"), "regression")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1.0]}, "weights: expected one a member, 2, got 1"),
        ({"weights": [1.0, 0.0]}, "weights: expected numbers above 0, got 0; leave a member of weight 0 out"),
        ({"weights": [1.0, float("nan")]}, "weights: expected numbers above 0, got nan"),
        ({"average": "votes"}, "average: expected one of probabilities, logits, got 'votes'"),
    ],
)
def test_settings_that_make_no_mean_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EnsembleTeacher(models("classification", 2), **settings)
