"""Start and end of answers become one tensor, in which padding is out of sight, and get their names back."""

from __future__ import annotations

import pytest
import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput, TokenClassifierOutput

from hf_distill.models.outputs import OUT_OF_SIGHT, logits_of, predictions_of
from hf_distill.objectives import ForwardKL, XDivergence
from hf_distill.reading.signals import Signals


def answers(*starts: list[float]) -> QuestionAnsweringModelOutput:
    start = torch.tensor(starts)
    return QuestionAnsweringModelOutput(start_logits=start, end_logits=start + 10)


def test_other_heads_logits_are_left_as_they_are():
    logits = torch.randn(2, 3, 4)
    assert logits_of(TokenClassifierOutput(logits=logits), torch.zeros(2, 3)) is logits


def test_start_and_end_keep_their_places_and_padding_is_not_read():
    output = answers([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    found = logits_of(output, torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert found[:, 0].tolist() == [[1.0, 2.0, OUT_OF_SIGHT], [4.0, 5.0, 6.0]]
    assert found[:, 1].tolist() == [[11.0, 12.0, OUT_OF_SIGHT], [14.0, 15.0, 16.0]]
    assert torch.equal(logits_of(output, None)[:, 1], output.end_logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_padding_has_no_share_and_makes_no_loss_infinite(dtype):
    """Half precision included; −∞ would give 0 · ∞ in divergences."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 3, generator=generator).to(dtype)
    padded = torch.cat([text, torch.full((2, 4), OUT_OF_SIGHT, dtype=dtype)], dim=1).requires_grad_()
    assert padded.softmax(-1)[:, 3:].count_nonzero() == 0
    for objective, make in ((ForwardKL(), pair), (XDivergence(), passes)):
        narrow, wide = (objective.values(make(logits), temperature=2.0) for logits in (text, padded))
        torch.testing.assert_close(wide, narrow, rtol=1e-6, atol=1e-7)
        (gradient,) = torch.autograd.grad(wide.sum(), padded)
        assert torch.isfinite(gradient).all() and gradient[:, :3].any() and not gradient[:, 3:].any()


def pair(logits_RT: torch.Tensor) -> Signals:
    other = logits_RT.detach().clone()
    other[:, :3] = other[:, :3].flip(-1)
    return Signals(logits_RT, teacher_logits=other)


def passes(logits_RT: torch.Tensor) -> Signals:
    return Signals(student_passes=torch.stack([logits_RT, pair(logits_RT).teacher_logits]))


def test_a_mask_of_other_positions_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 3\) and the attention mask is \(1, 2\); expected one mark"):
        logits_of(answers([1.0, 2.0, 3.0]), torch.ones(1, 2))


def test_metrics_get_start_and_end_apart_as_transformers_gives_them():
    logits = torch.randn(2, 2, 5)
    named = predictions_of("question_answering", logits)
    assert list(named) == ["start_logits", "end_logits"]
    assert torch.equal(torch.stack(list(named.values()), 1), logits)
    assert predictions_of("token_classification", logits) == {"logits": logits}
    assert predictions_of("question_answering", None) == {"logits": None}
