"""Agreement, KL and calibration error against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score

from hf_distill.analysis.fidelity import (
    CalibrationTally,
    FidelityTally,
    calibration_info,
    fidelity_info,
    plot_calibration,
    plot_fidelity,
)


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(0, 2, (300, 7))), torch.from_numpy(rng.normal(0, 2, (300, 7)))


def test_agreement_and_divergences_are_those_of_scipy(logits):
    student, teacher = logits
    info = fidelity_info(student, teacher)
    p, q = softmax(teacher.numpy(), axis=-1), softmax(student.numpy(), axis=-1)
    assert info.rows == 300
    assert info.agreement == accuracy_score(p.argmax(-1), q.argmax(-1))
    assert info.forward_kl == pytest.approx(entropy(p, q, axis=-1).mean(), rel=1e-12)
    assert info.reverse_kl == pytest.approx(entropy(q, p, axis=-1).mean(), rel=1e-12)
    assert info.forward_kl != pytest.approx(info.reverse_kl, rel=1e-3)


def test_a_model_agrees_with_itself():
    same = torch.randn(20, 5)
    info = fidelity_info(same, same + 3.0)
    assert (info.agreement, info.forward_kl, info.reverse_kl) == pytest.approx((1.0, 0.0, 0.0), abs=1e-6)


def test_batches_of_unequal_size_weigh_by_their_rows(logits):
    student, teacher = logits
    tally, calibration = FidelityTally(), CalibrationTally()
    labels = torch.randint(0, 7, (300,))
    for rows in (slice(0, 7), slice(7, 250), slice(250, 300)):
        tally.add(student[rows], teacher[rows])
        calibration.add(student[rows], labels[rows])
    assert tally.info() == pytest.approx(fidelity_info(student, teacher), rel=1e-12)
    whole = calibration_info(student, labels)
    assert calibration.info().error == pytest.approx(whole.error, rel=1e-12)
    assert calibration.info().counts == whole.counts


def test_token_that_the_teacher_rules_out_does_not_make_the_divergence_nan():
    student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    info = fidelity_info(student, teacher)
    assert info.forward_kl == pytest.approx(math.log(3 / 2), rel=1e-6)
    assert info.reverse_kl == math.inf


def test_half_precision_logits_are_compared_in_single_precision(logits):
    student, teacher = (values.to(torch.bfloat16) for values in logits)
    assert fidelity_info(student, teacher).forward_kl == pytest.approx(
        fidelity_info(student.double(), teacher.double()).forward_kl, rel=1e-6
    )


def test_calibration_bins_are_those_of_scikit_learn(logits):
    student, _ = logits
    labels = torch.randint(0, 7, (300,), generator=torch.Generator().manual_seed(1))
    info = calibration_info(student, labels, bins=10)
    probabilities = softmax(student.numpy(), axis=-1)
    confidence, hits = probabilities.max(-1), probabilities.argmax(-1) == labels.numpy()
    accuracy, mean_confidence = calibration_curve(hits, confidence, n_bins=10, strategy="uniform")
    filled = [index for index, count in enumerate(info.counts) if count]
    assert len(filled) < 10, "an empty bin is part of the comparison"
    assert [info.bin_accuracy[index] for index in filled] == pytest.approx(accuracy.tolist(), rel=1e-12)
    assert [info.bin_confidence[index] for index in filled] == pytest.approx(mean_confidence.tolist(), rel=1e-12)
    weights = np.array([info.counts[index] for index in filled]) / 300
    assert info.error == pytest.approx(float((weights * np.abs(accuracy - mean_confidence)).sum()), rel=1e-12)
    assert info.accuracy == pytest.approx(hits.mean())
    assert info.confidence == pytest.approx(confidence.mean())
    assert sum(info.counts) == info.rows == 300


def test_calibration_error_of_a_known_table():
    # Four rows with confidence 0.8, three right; two with confidence 0.6, none right: (4·0.05 + 2·0.6) / 6.
    sure, unsure = math.log(0.8 / 0.2), math.log(0.6 / 0.4)
    logits = torch.tensor([[sure, 0.0]] * 4 + [[unsure, 0.0]] * 2, dtype=torch.float64)
    info = calibration_info(logits, torch.tensor([0, 0, 0, 1, 1, 1]), bins=10)
    assert info.error == pytest.approx((4 * 0.05 + 2 * 0.6) / 6, rel=1e-9)
    assert info.accuracy == 0.5


def test_confidence_of_one_falls_into_the_last_bin():
    info = calibration_info(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]), bins=5)
    assert info.counts == (0, 0, 0, 0, 1)
    assert info.error == 0.0
    assert math.isnan(info.bin_accuracy[0])


@pytest.mark.parametrize(
    ("question", "match"),
    [
        (lambda: fidelity_info(torch.zeros(3, 4), torch.zeros(3, 5)), "of one shape"),
        (lambda: fidelity_info(torch.zeros(3, 1), torch.zeros(3, 1)), "not defined for regression"),
        (lambda: fidelity_info(torch.zeros(3, 2, 4), torch.zeros(3, 2, 4)), "rows, classes"),
        (lambda: fidelity_info(torch.zeros(0, 4), torch.zeros(0, 4)), "no rows"),
        (lambda: calibration_info(torch.zeros(3, 4), torch.zeros(2)), "one label for each of 3"),
        (lambda: CalibrationTally().info(), "no rows"),
        (lambda: CalibrationTally(0), "at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(question, match):
    with pytest.raises(ValueError, match=match):
        question()


def test_pictures_are_written(tmp_path, logits):
    info = fidelity_info(*logits)
    path = plot_fidelity({"labels": [info, info], "two_shot": [info, info]}, [100, 200], tmp_path / "fidelity.png")
    with Image.open(path) as image:
        assert image.size == (1200, 950)
    labels = torch.randint(0, 7, (300,))
    path = plot_calibration({"a": calibration_info(logits[0], labels)}, tmp_path / "calibration.png")
    with Image.open(path) as image:
        assert image.size == (900, 900)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10


def test_picture_without_a_step_for_each_revision_is_refused(tmp_path, logits):
    with pytest.raises(ValueError, match="2 steps"):
        plot_fidelity({"labels": [fidelity_info(*logits)]}, [100, 200], tmp_path / "x.png")
    with pytest.raises(ValueError, match="no revisions"):
        plot_fidelity({}, [100], tmp_path / "x.png")
