"""The weighted sum of terms over the items of a window, on signals made by hand."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from hf_distill.curricula import PlanContext, Term
from hf_distill.curricula.base import label_terms
from hf_distill.loss.loss import Loss
from hf_distill.loss.loss_log import LossLog
from hf_distill.objectives import ForwardKL
from hf_distill.reading.signals import Signals
from hf_distill.schedules import Constant, Linear

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 2, 1, -100])


@pytest.fixture(scope="module")
def loss() -> Loss:
    context = PlanContext(head="classification", max_steps=10)
    return Loss(head="classification", accelerator=Accelerator(cpu=True), label_term=label_terms(context)[0])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def kl(weight=1.0) -> Term:
    schedule = Constant(level=weight) if isinstance(weight, float) else weight
    return Term(name="kl", objective=ForwardKL(), weight=schedule, temperature=Constant(level=1.0))


def add_up(loss: Loss, terms, signals, *, progress=0.0, scale=1, log=None) -> torch.Tensor:
    return loss.add_up(
        terms,
        signals,
        view=lambda one, term: one,
        progress=progress,
        step=0,
        scale=scale,
        log=log or LossLog(),
    )


def test_the_label_loss_is_the_mean_cross_entropy_of_counted_rows(loss, logits):
    expected = torch.nn.functional.cross_entropy(logits, LABELS)
    assert loss.of_labels(logits, {"labels": LABELS}).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_micro_batch_is_divided_by_the_whole_window(loss, logits):
    loss.count_window([{"labels": LABELS}, {"labels": LABELS}], CPU)
    rows = logits[:3]
    teacher = torch.zeros_like(rows)
    expected = torch.nn.functional.kl_div(rows.log_softmax(-1), teacher.softmax(-1), reduction="sum") / 6
    found = add_up(loss, [kl()], [Signals(rows, LABELS[:3], teacher)])
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_several_passes_are_averaged(loss, logits):
    loss.count_window([{"labels": LABELS[:3]}], CPU)
    teacher = torch.zeros(3, 3)
    passes = [Signals(logits[:3] * factor, LABELS[:3], teacher) for factor in (1.0, 2.0)]
    alone = [add_up(loss, [kl()], [one]).item() for one in passes]
    assert add_up(loss, [kl()], passes).item() == pytest.approx(sum(alone) / 2, rel=1e-6)


def test_weight_and_scale_multiply_and_the_log_has_the_part_unweighted(loss, logits):
    loss.count_window([{"labels": LABELS[:3]}], CPU)
    signals, log = [Signals(logits[:3], LABELS[:3], torch.zeros(3, 3))], LossLog()
    once = add_up(loss, [kl()], signals).item()
    ramp = kl(Linear(start=0.0, stop=1.0))
    assert add_up(loss, [ramp], signals, progress=0.25, scale=2, log=log).item() == pytest.approx(once / 2, rel=1e-6)
    assert log.parts["objective/kl"].item() == pytest.approx(2 * once, rel=1e-6)
