"""A constant is the same number throughout."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Constant


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_a_constant_does_not_move(progress):
    assert Constant(level=-0.1)(progress) == -0.1


def test_its_text_is_the_number():
    assert Constant(level=0.25).formula() == "0.25"
    assert Constant(level=1.0).formula() == "1"
