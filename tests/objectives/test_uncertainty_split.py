from __future__ import annotations

import pytest
import torch
from logit_cases import RELATIVE, gradient_of, kl, labels_for, logit_pair, passes_gradcheck, softmax, values_of
from torch import Tensor

from hf_distill.objectives import OBJECTIVES, UncertaintySplit
from hf_distill.objectives.decoupled_kd import Decoupled, decouple
from hf_distill.objectives.distributions import TemperedLogits


def parts_of(teacher: Tensor, student: Tensor, labels: Tensor) -> Decoupled:
    """The parts at temperature 1."""
    return decouple(TemperedLogits(teacher), TemperedLogits(student), labels)


def test_values_equal_the_definition_with_40_digits() -> None:
    student, teacher = logit_pair(8)
    labels, expected = labels_for(student), []
    for z_s, z_t, label in zip(student, teacher, labels.tolist(), strict=True):
        p, q = softmax(z_t), softmax(z_s)
        coin = kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = (kl(p, q) - coin) / (1 - p[label])
        expected.append(float(0.4 * others if 1 - p[label] < 0.5 else 1.6 * (coin + others)))
    assert values_of(UncertaintySplit(), student, teacher, labels).tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("rows", [8, 9])
def test_the_median_split_averages_as_published(rows: int) -> None:
    student, teacher = logit_pair(rows)
    labels = labels_for(student)
    parts = parts_of(teacher, student, labels)
    order = parts.rest_R.argsort()
    easy, hard = order[: rows // 2], order[rows // 2 :]
    published = 0.2 * parts.others_R[easy].mean() + 0.8 * (parts.target_R + parts.others_R)[hard].mean()
    ours = values_of(UncertaintySplit(threshold="median"), student, teacher, labels).mean()
    torch.testing.assert_close(ours, published)


def test_a_fixed_threshold_at_the_median_is_the_published_split() -> None:
    student, teacher = logit_pair(8)
    labels = labels_for(student)
    rest = parts_of(teacher, student, labels).rest_R.sort().values
    fixed = values_of(UncertaintySplit(threshold=rest[3:5].mean().item()), student, teacher, labels)
    torch.testing.assert_close(values_of(UncertaintySplit(threshold="median"), student, teacher, labels), fixed)


def test_with_a_fixed_threshold_no_row_looks_at_its_neighbours() -> None:
    student, teacher = logit_pair(8)
    labels = labels_for(student)
    whole = values_of(UncertaintySplit(), student, teacher, labels)
    parts = [
        values_of(UncertaintySplit(), student[rows], teacher[rows], labels[rows]) for rows in (slice(3), slice(3, 8))
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_easy_tokens_do_not_learn_the_label() -> None:
    student, teacher = logit_pair()
    labels = labels_for(student)
    gradient = gradient_of(UncertaintySplit(threshold=1.0), student, teacher, labels)
    own = gradient.gather(-1, labels[:, None])
    torch.testing.assert_close(own, torch.zeros_like(own))
    gradient = gradient_of(UncertaintySplit(threshold=0.0), student, teacher, labels)
    assert (gradient.gather(-1, labels[:, None]).abs() > 1e-6).all()


def test_a_teacher_equally_unsure_everywhere_makes_every_token_hard_and_no_nan() -> None:
    student, _ = logit_pair(4, 5)
    teacher, labels = torch.zeros(4, 5, dtype=torch.float64), labels_for(student)
    parts = parts_of(teacher, student, labels)
    values = values_of(UncertaintySplit(threshold="median"), student, teacher, labels)
    torch.testing.assert_close(values, 0.8 * (parts.target_R + parts.others_R))


@pytest.mark.parametrize("threshold", [0.5, "median"])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_is_that_of_the_value(threshold: float | str, side: str) -> None:
    assert passes_gradcheck(UncertaintySplit(threshold=threshold, temperature_on=side), temperature=1.7)


def test_a_batch_without_rows_has_no_median_and_needs_none() -> None:
    empty = torch.zeros(0, 5)
    values = values_of(UncertaintySplit(threshold="median"), empty, empty, torch.zeros(0, dtype=torch.long))
    assert values.shape == (0,)


@pytest.mark.parametrize("threshold", [0.25, 1, "median"])
def test_a_recipe_gives_a_number_or_the_median(threshold: float | str) -> None:
    built = OBJECTIVES.build({"name": "uncertainty_split", "threshold": threshold}, path="objectives[0]")
    assert isinstance(built, UncertaintySplit) and built.threshold == threshold


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 1.5}, "threshold must be a probability in .* or 'median', got 1.5"),
        ({"threshold": "mean"}, "threshold: expected"),
        ({"alpha": 2.0}, "alpha must lie in"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OBJECTIVES.build({"name": "uncertainty_split", **fields}, path="objectives[0]")


def test_the_formula_names_the_split() -> None:
    assert UncertaintySplit(threshold="median").formula() == "ATKD(α=0.2, u≷median; teacher/τ ‖ student)"
