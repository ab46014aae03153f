"""φ and ψ of Annealing-KD and Continuation-KD, against the traces worked out from the papers by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from hf_distill.schedules import AnnealingTemperature, ContinuationWeight

STEPS_PER_EPOCH = 7

# The printed algorithm for n = 30 epochs and T_max = 10: the first value lasts two epochs, the others three; the last
# epoch of all would have T = 0 and is clamped.
GLUE = [0.1] * 2 + [value / 10 for value in range(2, 11) for _ in range(3)] + [1.0]
# n = 200, T_max = 20: nine epochs, then ten each.
CIFAR = [0.05] * 9 + [value / 20 for value in range(2, 21) for _ in range(10)] + [1.0]


def phi_of_epochs(schedule: AnnealingTemperature, epochs: int) -> list[float]:
    """φ at every step, which must not change within an epoch."""
    steps = epochs * STEPS_PER_EPOCH
    phis = [1.0 / schedule(step / steps) for step in range(steps)]
    by_epoch = [set(phis[index * STEPS_PER_EPOCH : (index + 1) * STEPS_PER_EPOCH]) for index in range(epochs)]
    assert all(len(values) == 1 for values in by_epoch)
    return [values.pop() for values in by_epoch]


@pytest.mark.parametrize(("epochs", "tau_max", "trace"), [(30, 10, GLUE), (200, 20, CIFAR)])
def test_phi_keeps_to_the_printed_trace(epochs, tau_max, trace):
    assert len(trace) == epochs
    found = phi_of_epochs(AnnealingTemperature(steps=tau_max, epochs=epochs), epochs)
    assert found == pytest.approx(trace, rel=1e-12)


def test_phi_is_that_of_the_worked_example():
    """Epochs 1-2 .1, 3-5 .2, 6-8 .3, 9-11 .4, 12-14 .5, 15-17 .6, 18-20 .7, in the papers' count from 1."""
    found = phi_of_epochs(AnnealingTemperature(steps=10, epochs=30), 30)
    ranges = {0.1: (1, 2), 0.2: (3, 5), 0.3: (6, 8), 0.4: (9, 11), 0.5: (12, 14), 0.6: (15, 17), 0.7: (18, 20)}
    for phi, (first, last) in ranges.items():
        assert found[first - 1 : last] == pytest.approx([phi] * (last - first + 1), rel=1e-12)


def test_the_teacher_is_not_amplified_where_epochs_and_steps_do_not_divide():
    """Annealing-KD's released code reaches φ = 15/14 for 30 epochs in 14 steps."""
    found = phi_of_epochs(AnnealingTemperature(steps=14, epochs=30), 30)
    assert max(found) == 1.0
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("max_steps", "length", "tau_max"), [(90, 70, 7), (18, 14, 7), (600, 400, 10), (300, 200, 20)]
)
def test_every_value_of_phi_lasts_equally_long(max_steps, length, tau_max):
    """A border that falls on a step must not be moved by rounding in step / max_steps."""
    schedule = AnnealingTemperature(steps=tau_max, end=length / max_steps)
    counted = Counter(round(tau_max / schedule(step / max_steps)) for step in range(length))
    assert counted == dict.fromkeys(range(1, tau_max + 1), length // tau_max)


def test_phi_does_not_move_outside_its_window():
    schedule = AnnealingTemperature(steps=4, begin=0.25, end=0.75)
    assert [schedule(progress) for progress in (0.0, 0.2)] == [4.0, 4.0]
    assert [schedule(progress) for progress in (0.75, 0.9, 1.0)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("steps", "epochs"), [(0, None), (10, 9)])
def test_fewer_epochs_than_values_are_refused(steps, epochs):
    with pytest.raises(ValueError, match=r"1 ≤ steps ≤ epochs.*every value of the temperature lasts at least one"):
        AnnealingTemperature(steps=steps, epochs=epochs)


def test_psi_of_glue_is_that_of_the_paper():
    weight = ContinuationWeight()
    for epoch in range(1, 31):
        assert weight(epoch / 30) == pytest.approx(epoch / 40 if epoch <= 20 else 1.0, rel=1e-12)
    assert weight(0.0) == 0.0
    assert weight(20 / 30) == pytest.approx(0.5)


def test_psi_of_cifar_is_that_of_the_paper():
    weight = ContinuationWeight(slope=4 / 3, until=0.75)
    for epoch in range(1, 201):
        assert weight(epoch / 200) == pytest.approx(min(epoch / 150, 1.0), rel=1e-12)


def test_a_step_function_is_to_be_had():
    weight = ContinuationWeight(slope=0.0, until=0.5)
    assert [weight(progress) for progress in (0.0, 0.5, 0.51, 1.0)] == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(("slope", "until"), [(-0.1, 0.5), (0.5, 1.5), (2.0, 0.75)])
def test_a_weight_beyond_one_is_refused(slope, until):
    with pytest.raises(ValueError, match=r"needs slope ≥ 0, 0 ≤ until ≤ 1 and slope·until ≤ 1"):
        ContinuationWeight(slope=slope, until=until)
