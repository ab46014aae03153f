"""Influence and correlation against their closed forms, exact over all 2^D inputs."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from PIL import Image

from hf_distill.analysis.parity_influence import (
    logit_difference,
    parity_influence_info,
    plot_parity_influence,
    uniform_signs,
)
from hf_distill.tasks import Parity, ParityMlpConfig, ParityMlpForSequenceClassification

DIMENSION = 8
EVERY_INPUT = torch.tensor(list(product((-1.0, 1.0), repeat=DIMENSION)))


def parity_of(*support):
    return lambda signs: signs[:, list(support)].prod(-1)


def test_parity_has_influence_1_on_its_support_and_0_elsewhere():
    info = parity_influence_info(lambda signs: 7.5 * parity_of(1, 4, 6)(signs) + 2.0, EVERY_INPUT, [1, 4, 6], order=3)
    assert info.influence == pytest.approx([0, 1, 0, 0, 1, 0, 1, 0], abs=1e-12)
    assert info.correlation == pytest.approx([0] * DIMENSION, abs=1e-12)
    assert info.influence_inside == pytest.approx(1.0)
    assert info.influence_outside == pytest.approx(0.0, abs=1e-12)
    assert info.deviation == pytest.approx(7.5)
    assert [len(degree.inside) for degree in info.degrees] == [3, 3, 1]
    assert info.degrees[1].inside == pytest.approx([0, 0, 0], abs=1e-12)
    assert info.degrees[2].inside == pytest.approx([1.0])
    assert info.degrees[2].outside == pytest.approx([0] * math.comb(5, 3), abs=1e-12)


def test_linear_function_has_the_influence_of_its_squared_weights():
    weights = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0, -1.5, 0.25, 4.0])
    info = parity_influence_info(lambda signs: signs @ weights - 11.0, EVERY_INPUT, [0, 1])
    squares = weights.double().square()
    assert info.influence == pytest.approx((squares / squares.sum()).tolist(), abs=1e-9)
    assert info.correlation == pytest.approx((weights.double() / squares.sum().sqrt()).tolist(), abs=1e-9)
    assert sum(info.influence) == pytest.approx(1.0)
    assert info.influence_ratio == pytest.approx((13 / 2) / ((squares.sum().item() - 13) / 6))


def test_influence_is_the_sum_of_squared_coefficients_of_products_with_the_coordinate():
    # f = 3 x0 x1 + 4 x1 x2 x3: Var f = 25, so that Inf_0 = 9/25, Inf_1 = 1, Inf_2 = 16/25.
    info = parity_influence_info(
        lambda signs: 3 * parity_of(0, 1)(signs) + 4 * parity_of(1, 2, 3)(signs), EVERY_INPUT, [1, 2, 3], order=3
    )
    assert info.influence == pytest.approx([0.36, 1.0, 0.64, 0.64, 0, 0, 0, 0], abs=1e-12)
    assert info.degrees[2].inside == pytest.approx([0.8])
    # The product x0 x1 is neither inside the support nor without a coordinate of it: counted nowhere.
    assert max(info.degrees[1].inside + info.degrees[1].outside) == pytest.approx(0.0, abs=1e-12)


def test_accuracy_is_the_share_of_right_signs_and_no_answer_is_wrong():
    assert parity_influence_info(parity_of(0, 1), EVERY_INPUT, [1, 0]).accuracy == 1.0
    assert parity_influence_info(lambda signs: -parity_of(0, 1)(signs), EVERY_INPUT, [0, 1]).accuracy == 0.0
    assert parity_influence_info(lambda signs: signs[:, 2].clamp(min=0), EVERY_INPUT, [0, 1]).accuracy == 0.25


def test_constant_model_has_no_numbers_instead_of_a_division_by_zero():
    info = parity_influence_info(lambda signs: torch.full((len(signs),), 3.0), EVERY_INPUT, [0, 1])
    assert math.isnan(info.influence_inside)
    assert math.isnan(info.influence_ratio)
    assert math.isnan(info.correlation_ratio)
    assert all(math.isnan(value) for value in info.correlation)


def test_ratio_without_coordinates_outside_is_not_a_number():
    info = parity_influence_info(parity_of(*range(DIMENSION)), EVERY_INPUT, range(DIMENSION))
    assert info.influence_inside == pytest.approx(1.0)
    assert math.isnan(info.influence_ratio)


def test_many_subsets_outside_are_drawn_without_repetition_and_the_same_for_a_seed():
    signs = uniform_signs(500, 30)
    infos = [
        parity_influence_info(parity_of(0, 1), signs, [0, 1], order=2, outside_subsets=20, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert [len(degree.outside) for degree in infos[0].degrees] == [20, 20]
    assert infos[0].degrees == infos[1].degrees
    assert infos[0].degrees[1].outside != infos[2].degrees[1].outside
    assert len(set(infos[0].degrees[0].outside)) > 15


def test_sampled_inputs_come_close_to_the_exact_values():
    signs = uniform_signs(20_000, 12, seed=3)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    info = parity_influence_info(lambda x: 3 * parity_of(0, 1)(x) + 4 * x[:, 2], signs, [0, 1])
    assert info.noise == pytest.approx(1 / math.sqrt(20_000))
    assert info.influence == pytest.approx([0.36, 0.36, 0.64] + [0] * 9, abs=0.02)
    assert info.correlation == pytest.approx([0, 0, 0.8] + [0] * 9, abs=4 * info.noise)


def test_probe_draws_the_same_inputs_whatever_was_drawn_before():
    first = uniform_signs(10, 5, seed=1)
    torch.rand(7)
    assert torch.equal(first, uniform_signs(10, 5, seed=1))
    assert not torch.equal(first, uniform_signs(10, 5, seed=2))


def test_score_of_an_mlp_is_its_logit_of_plus_one_minus_that_of_minus_one():
    model = ParityMlpForSequenceClassification(ParityMlpConfig(input_size=5, width=7)).eval()
    signs = uniform_signs(11, 5)
    logits = model(inputs=signs).logits
    scores = logit_difference(model, batch_size=4)(signs)
    torch.testing.assert_close(scores, logits[:, 0] - logits[:, 1], rtol=1e-6, atol=1e-7)
    assert not scores.requires_grad


@pytest.mark.parametrize("inputs", ["vector", "tokens"])
def test_signs_and_bits_stand_for_the_same_examples_as_in_the_task(inputs, tmp_path):
    # A probe that took bit 1 for +1 would call a perfect model of an odd support perfectly wrong.
    task = Parity(d=6, k=3, inputs=inputs)
    data = task.prepare(seed=0, cache_dir=tmp_path)
    batch = data.collator([data.validation[row] for row in range(50)])
    signs = batch["inputs"] if inputs == "vector" else 1.0 - 2.0 * batch["input_ids"].float()
    info = parity_influence_info(parity_of(0, 1, 2), signs, task.support_indices())
    assert info.accuracy == 1.0
    assert torch.equal(batch["labels"], (parity_of(0, 1, 2)(signs) < 0).long())
    spec = {"architecture": "parity_mlp" if inputs == "vector" else "gpt2", "config": {}}
    model = task.build_model(spec, data).eval()
    key = "inputs" if inputs == "vector" else "input_ids"
    expected = model(**{key: batch[key]}).logits
    scores = logit_difference(model, inputs=inputs)(signs)
    torch.testing.assert_close(scores, expected[:, 0] - expected[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("signs", "support", "order", "match"),
    [
        (EVERY_INPUT[:0], [0], 1, "N ≥ 1"),
        (EVERY_INPUT[0], [0], 1, "shape"),
        (EVERY_INPUT, [], 1, "got none"),
        (EVERY_INPUT, [0, 8], 1, "from 0 to 7"),
        (EVERY_INPUT, [0, 1], 3, "1 to 2"),
        (EVERY_INPUT, [0, 1], 0, "1 to 2"),
    ],
)
def test_impossible_questions_are_refused(signs, support, order, match):
    with pytest.raises(ValueError, match=match):
        parity_influence_info(parity_of(0), signs, support, order=order)


@pytest.mark.slow
def test_picture_survives_a_constant_revision_and_one_revision(tmp_path):
    good = parity_influence_info(parity_of(0, 1), uniform_signs(200, 8), [0, 1], order=2)
    constant = parity_influence_info(lambda signs: torch.zeros(len(signs)), EVERY_INPUT, [0, 1], order=2)
    path = plot_parity_influence([constant, good], [100, 200], tmp_path / "both.png")
    with Image.open(path) as image:
        assert image.size == (1200, 1050)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
    assert plot_parity_influence([good], [100], tmp_path / "one.png").is_file()


def test_picture_without_a_step_for_each_revision_is_refused(tmp_path):
    info = parity_influence_info(parity_of(0), EVERY_INPUT, [0])
    with pytest.raises(ValueError, match="1 revisions but 2 steps"):
        plot_parity_influence([info], [1, 2], tmp_path / "x.png")
