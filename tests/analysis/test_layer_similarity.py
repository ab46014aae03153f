"""Linear CKA against the estimator's own formula in numpy, its invariances, and the map that follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_distill.analysis.layer_similarity import (
    LayerSimilarityInfo,
    LayerSimilarityTally,
    layer_similarity_info,
    plot_layer_similarity,
)


def states(rows: int, *widths: int, seed: int = 0) -> list[torch.Tensor]:
    """Layers that share something: each is a random nonlinear image of the same few causes."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(rows, 5, generator=torch.Generator().manual_seed(99))
    made = []
    for width in widths:
        mixed = causes @ torch.randn(5, width, generator=generator)
        made.append(mixed.tanh() + 0.3 * torch.randn(rows, width, generator=generator) + 2.0)
    return made


def hsic(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased estimator as Nguyen et al. 2021 write it (equation 3), from uncentred inner products."""
    count = len(first)
    one, two = first @ first.T, second @ second.T
    np.fill_diagonal(one, 0)
    np.fill_diagonal(two, 0)
    ones = np.ones(count)
    middle = (ones @ one @ ones) * (ones @ two @ ones) / ((count - 1) * (count - 2))
    return (np.trace(one @ two) + middle - 2 / (count - 2) * (ones @ one @ two @ ones)) / (count * (count - 3))


def reference(first: torch.Tensor, second: torch.Tensor, block: int) -> float:
    parts = []
    for start in range(0, len(first) - block + 1, block):
        one, two = (layer[start : start + block].double().numpy() for layer in (first, second))
        parts.append((hsic(one, two), hsic(one, one), hsic(two, two)))
    cross, own, other = np.mean(parts, axis=0)
    return cross / math.sqrt(own * other)


@pytest.mark.parametrize("block", [60, 20, 16])
def test_values_are_those_of_the_published_estimator(block):
    student, teacher = states(60, 4, 7, seed=1), states(60, 6, 3, 9, seed=2)
    info = layer_similarity_info(student, teacher, block_rows=block)
    expected = [[reference(ours, theirs, block) for theirs in teacher] for ours in student]
    np.testing.assert_allclose(info.similarity, expected, rtol=1e-9)
    assert info.rows == 60 // block * block


@pytest.mark.slow
def test_many_rows_come_close_to_the_definition_with_covariances():
    """Kornblith et al.: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features; its bias falls with the number of rows."""
    (ours,), (theirs,) = states(3000, 6, seed=1), states(3000, 8, seed=2)
    x, y = ((layer - layer.mean(0)).double().numpy() for layer in (ours, theirs))
    expected = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    info = layer_similarity_info([ours], [theirs], block_rows=3000)
    assert info.similarity[0][0] == pytest.approx(expected, abs=2e-3)


def test_rotating_scaling_and_shifting_a_layer_changes_nothing():
    (ours,), (theirs,) = states(50, 6, seed=1), states(50, 8, seed=2)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    moved = 37.0 * ours.double() @ rotation - 1000.0
    one, two = (layer_similarity_info([layer], [theirs]).similarity[0][0] for layer in (ours, moved))
    assert two == pytest.approx(one, rel=1e-9)
    assert layer_similarity_info([ours], [moved]).similarity[0][0] == pytest.approx(1.0, abs=1e-12)


def test_stretching_one_direction_does_change_it():
    """CKA that were invariant to every linear map would call all wide layers alike."""
    (ours,) = states(50, 6, seed=1)
    stretched = ours * torch.tensor([100.0, 1, 1, 1, 1, 1])
    assert layer_similarity_info([ours], [stretched]).similarity[0][0] < 0.9


def test_unrelated_wide_layers_have_nothing_in_common():
    """The biased estimate is near 1 where there are more dimensions than rows, and every map would be chance."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(64, 2000, generator=generator) for _ in range(2))
    assert layer_similarity_info([ours], [theirs]).similarity[0][0] == pytest.approx(0.0, abs=0.05)


def test_student_and_teacher_change_places():
    student, teacher = states(40, 4, 5, seed=1), states(40, 6, seed=2)
    there = np.array(layer_similarity_info(student, teacher).similarity)
    np.testing.assert_allclose(np.array(layer_similarity_info(teacher, student).similarity), there.T, rtol=1e-12)


@pytest.mark.parametrize("sizes", [[70], [7] * 10, [1, 33, 36], [69, 1]], ids=str)
def test_how_rows_are_split_into_batches_does_not_matter(sizes):
    student, teacher = states(70, 4, 5, seed=1), states(70, 6, seed=2)
    tally, start = LayerSimilarityTally(block_rows=32), 0
    for size in sizes:
        tally.add(*([layer[start : start + size] for layer in model] for model in (student, teacher)))
        start += size
    assert tally.info() == layer_similarity_info(student, teacher, block_rows=32)
    assert tally.info().rows == 64


def test_half_precision_states_are_compared_in_double():
    student, teacher = states(40, 4, seed=1), states(40, 6, seed=2)
    halved = [layer.bfloat16() for layer in student]
    expected = layer_similarity_info([layer.double() for layer in halved], teacher).similarity
    np.testing.assert_allclose(layer_similarity_info(halved, teacher).similarity, expected, rtol=1e-12)


def test_a_layer_that_never_varies_has_no_similarity():
    info = layer_similarity_info([torch.full((20, 3), 0.1), *states(20, 3)], states(20, 4, seed=2))
    assert math.isnan(info.similarity[0][0])
    assert math.isfinite(info.similarity[1][0])


@pytest.mark.parametrize(
    ("student", "teacher", "match"),
    [
        ([], [torch.zeros(5, 2)], "same rows for each layer"),
        ([torch.zeros(5, 2)], [], "same rows for each layer"),
        ([torch.zeros(5, 2)], [torch.zeros(6, 2)], r"\(6, 2\)"),
        ([torch.zeros(5, 2, 2)], [torch.zeros(5, 2)], r"\(5, 2, 2\)"),
        ([torch.zeros(3, 2)], [torch.zeros(3, 2)], "at least 4 rows, got 3"),
    ],
)
def test_states_that_cannot_be_compared_are_refused(student, teacher, match):
    with pytest.raises(ValueError, match=match):
        layer_similarity_info(student, teacher)


def test_no_rows_and_tiny_blocks_are_refused():
    with pytest.raises(ValueError, match="at least 4 rows, got 0"):
        LayerSimilarityTally().info()
    with pytest.raises(ValueError, match="block_rows: expected at least 4, got 3"):
        LayerSimilarityTally(3)


# ---- the map ----


def info_of(*rows: tuple[float, ...]) -> LayerSimilarityInfo:
    return LayerSimilarityInfo(similarity=rows, rows=100)


def test_the_map_takes_the_most_similar_layer_without_going_back():
    info = info_of((0.9, 0.2, 0.1), (0.1, 0.2, 0.8), (0.9, 0.8, 0.1))
    assert info.monotone_map() == [(1, 1), (2, 3), (3, 3)]


def test_equally_similar_layers_leave_the_most_room_behind_them():
    assert info_of((0.5, 0.5), (0.2, 0.5)).monotone_map() == [(1, 1), (2, 2)]


def test_the_map_passes_over_layers_without_a_similarity():
    nan = math.nan
    assert info_of((nan, 0.1, -0.2), (0.3, nan, 0.1)).monotone_map() == [(1, 2), (2, 3)]
    with pytest.raises(ValueError, match="student layer 2 cannot be compared with the teacher's layers from 2 on"):
        info_of((0.1, 0.2), (0.5, nan)).monotone_map()


def test_a_student_made_of_every_other_layer_finds_its_own_layers():
    teacher = states(300, 12, 12, 12, 12, 12, 12, seed=3)
    for index in range(1, 6):
        teacher[index] = (0.7 * teacher[index - 1] @ torch.randn(12, 12) / 3 + teacher[index]).relu()
    noisy = [teacher[index] + 0.05 * torch.randn(300, 12) for index in (1, 3, 5)]
    assert layer_similarity_info(noisy, teacher).monotone_map() == [(1, 2), (2, 4), (3, 6)]


def test_the_picture_shows_more_than_one_colour_and_survives_a_gap(tmp_path):
    info = info_of((0.9, math.nan, 0.1), (0.1, 0.2, 0.8))
    path = plot_layer_similarity(info, tmp_path / "layers.png", pairs=info.monotone_map())
    with Image.open(path) as image:
        assert image.size == (1050, 900)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
