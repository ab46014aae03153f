"""Projections from a seed alone, standardised targets, read-outs that are saved: what extraction learns towards."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from hf_distill.reading.extractor import Extractor, LayerPair, uniform_map

PAIRS = [LayerPair(1, 2), LayerPair(2, 4)]


def extractor(**overrides) -> Extractor:
    return Extractor(PAIRS, **{"student_width": 6, "teacher_width": 40, **overrides})


def teacher_states(rows: int = 200, seed: int = 0) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer: 3.0 * torch.randn(rows, 40, generator=generator) + layer for layer in (2, 4)}


def projections(made: Extractor) -> list[torch.Tensor]:
    return [made.get_buffer(f"projection_{pair.key}") for pair in PAIRS]


# ---- from the seed ----


def test_projections_and_read_outs_come_from_the_seed_alone():
    first = extractor(seed=5)
    torch.randn(7)
    second = extractor(seed=5)
    assert all(torch.equal(one, two) for one, two in zip(projections(first), projections(second), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(projections(first)[0], projections(extractor(seed=6))[0])
    assert not torch.equal(*projections(first))


def test_no_pair_of_another_seed_repeats_a_projection():
    """Seeds that count up, as runs have, must not share projections between their layers."""
    made = [projection for seed in range(3) for projection in projections(extractor(seed=seed))]
    assert all(not torch.equal(made[i], made[j]) for i in range(len(made)) for j in range(i))


def test_making_an_extractor_does_not_move_the_random_state_of_training():
    state = torch.random.get_rng_state()
    extractor()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_entries_have_deviation_one_over_the_root_of_the_width():
    (projection, _) = projections(extractor(teacher_width=400, dimensions=500))
    assert projection.shape == (500, 400)
    assert projection.mean().item() == pytest.approx(0.0, abs=4 * 0.05 / math.sqrt(200_000))
    assert projection.std().item() == pytest.approx(0.05, rel=0.01)


def test_read_outs_start_as_torch_starts_a_linear_map():
    readout = extractor(student_width=64, dimensions=300).readouts["1_2"]
    bound = 64**-0.5
    for values in (readout.weight, readout.bias):
        assert values.abs().max().item() <= bound
        assert values.abs().max().item() > 0.95 * bound
    assert readout.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def sizes(made: Extractor) -> set[int]:
    return {len(mean) for name, mean in made.named_buffers() if name.startswith("mean")}


def test_the_target_has_the_teachers_width_with_a_read_out_and_the_students_without():
    assert sizes(extractor()) == {40}
    assert sizes(extractor(readout=False)) == {6}
    assert sizes(extractor(dimensions=3)) == {3}
    assert sizes(extractor(readout=False, dimensions=6)) == {6}


def test_dimensions_without_a_read_out_are_refused():
    with pytest.raises(ValueError, match="student's width 6, not 7 dimensions; leave `dimensions` out or set"):
        extractor(readout=False, dimensions=7)


def test_without_read_outs_the_state_itself_is_compared_and_nothing_is_trained():
    made = extractor(readout=False)
    states = torch.randn(3, 6)
    assert made.predict(PAIRS[0], states) is states
    assert list(made.parameters()) == []


def test_a_pair_given_twice_has_one_read_out():
    made = Extractor([*PAIRS, PAIRS[0]], student_width=6, teacher_width=40)
    assert made.pairs == PAIRS
    assert len(made.readouts) == 2
    assert made.teacher_layers == [2, 4]


# ---- standardised ----


@pytest.mark.parametrize("sizes", [[200], [150, 50], [1] * 200], ids=["whole", "two", "single"])
def test_targets_have_mean_0_and_deviation_1_on_the_calibration_data(sizes):
    states = teacher_states()
    batches = zip(*(states[layer].split(sizes) for layer in (2, 4)), strict=True)
    made = extractor()
    assert not made.calibrated
    made.calibrate({2: two, 4: four} for two, four in batches)
    assert made.calibrated
    for pair in PAIRS:
        target = made.target(pair, states[pair.teacher]).double()
        torch.testing.assert_close(target.mean(0), torch.zeros(40, dtype=torch.float64), rtol=0, atol=1e-5)
        torch.testing.assert_close(target.std(0, correction=0), torch.ones(40, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_large_common_offset_does_not_drown_the_deviation():
    """Hidden states of language models have coordinates a thousand times larger than their spread."""
    states = {layer: values + 3000.0 for layer, values in teacher_states().items()}
    made = extractor()
    made.calibrate([states])
    exact = states[2].double() @ projections(made)[0].double().T
    expected = exact.std(0, correction=0)
    torch.testing.assert_close(made.get_buffer("deviation_1_2").double(), expected, rtol=1e-3, atol=0)


def test_a_dimension_that_never_varies_is_not_blown_up():
    made = extractor()
    made.calibrate([{layer: torch.full((50, 40), 0.1) for layer in (2, 4)}])
    target = made.target(PAIRS[0], torch.full((1, 40), 0.1))
    assert target.abs().max().item() < 1e-4


@pytest.mark.parametrize("rows", [0, 1])
def test_calibration_without_examples_is_refused(rows):
    with pytest.raises(ValueError, match=f"calibration of teacher layer 2 saw {rows} positions"):
        extractor().calibrate([teacher_states(rows)] if rows else [])


def test_calibration_on_states_that_are_not_finite_is_refused():
    states = teacher_states()
    states[4][3, 5] = math.inf
    with pytest.raises(ValueError, match="calibration of teacher layer 4 saw 200 positions, or states that are not"):
        extractor().calibrate([states])


def test_half_precision_states_are_projected_in_single_precision():
    made = extractor()
    states = teacher_states()[2].bfloat16()
    assert made.project(PAIRS[0], states).dtype == torch.float32
    torch.testing.assert_close(made.project(PAIRS[0], states), states.float() @ projections(made)[0].T)
    assert made.predict(PAIRS[0], torch.randn(3, 6).bfloat16()).dtype == torch.float32


# ---- saved ----


def trained(**overrides) -> Extractor:
    made = extractor(**overrides)
    made.calibrate([teacher_states()])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape))
    return made


def test_what_was_saved_is_loaded_bitwise(tmp_path):
    before, after = trained(), extractor()
    before.save(tmp_path)
    after.load(tmp_path)
    assert after.calibrated
    states, own = teacher_states(seed=3)[4], torch.randn(5, 6)
    assert torch.equal(after.target(PAIRS[1], states), before.target(PAIRS[1], states))
    assert torch.equal(after.predict(PAIRS[1], own), before.predict(PAIRS[1], own))


def test_projections_take_no_place_in_a_checkpoint(tmp_path):
    trained().save(tmp_path)
    names = set(load_file(tmp_path / Extractor.file_name))
    assert names == {
        *(f"{what}_{pair}" for what in ("mean", "deviation") for pair in ("1_2", "2_4")),
        *(f"readouts.{pair}.{what}" for what in ("weight", "bias") for pair in ("1_2", "2_4")),
    }


def test_a_checkpoint_without_read_outs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"has no {Extractor.file_name}: its run had no curriculum extraction"):
        extractor().load(tmp_path)


@pytest.mark.parametrize("other", [{"dimensions": 3}, {"readout": False}], ids=str)
def test_a_checkpoint_of_other_dimensions_is_refused(tmp_path, other):
    trained(**other).save(tmp_path)
    with pytest.raises(ValueError, match="belongs to other layers or widths"):
        extractor().load(tmp_path)


# ---- the uniform map ----


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (2, 4, [(1, 2), (2, 4)]),
        (4, 12, [(1, 3), (2, 6), (3, 9), (4, 12)]),
        (3, 4, [(1, 1), (2, 3), (3, 4)]),
        (4, 2, [(1, 1), (2, 1), (3, 2), (4, 2)]),
        (1, 5, [(1, 5)]),
        (3, 1, [(1, 1), (2, 1), (3, 1)]),
    ],
)
def test_the_uniform_map_ends_at_the_last_layer_and_starts_at_the_first_or_later(student, teacher, expected):
    assert uniform_map(student, teacher) == [LayerPair(*pair) for pair in expected]


def test_layers_of_several_widths_are_read_with_one_map():
    made = extractor(student_width={1: 4, 2: 6}, teacher_width={2: 10, 4: 20})
    for pair, ours, theirs in ((PAIRS[0], 4, 10), (PAIRS[1], 6, 20)):
        assert made.predict(pair, torch.ones(3, ours)).shape == made.target(pair, torch.ones(3, theirs)).shape
        assert made.target(pair, torch.ones(3, theirs)).shape == (3, theirs)
    with pytest.raises(ValueError, match="has the student's width 6, not 4 dimensions"):
        extractor(student_width={1: 4, 2: 6}, readout=False, dimensions=4)
