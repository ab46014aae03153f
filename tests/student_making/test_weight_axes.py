from __future__ import annotations

import pytest
from student_cases import TEACHERS, teacher_of

from hf_distill.student_making.families import family_of
from hf_distill.student_making.names import WeightName
from hf_distill.student_making.sizes import sizes_of
from hf_distill.student_making.units import checked_axes
from hf_distill.student_making.weight_axes import axes_of


@pytest.mark.parametrize("name", TEACHERS)
def test_every_weight_is_known_with_the_shape_of_its_axes(name):
    teacher = teacher_of(name)
    family, sizes = family_of(teacher.config), sizes_of(teacher.config)
    for key, tensor in teacher.state_dict().items():
        axes = checked_axes(key, WeightName.of(key, teacher, family), family, tuple(tensor.shape), sizes)
        assert len(axes) == tensor.dim()


def test_the_first_pattern_that_fits_counts():
    patterns = {"attention.output.*": "a", "*.output.*": "b"}
    assert axes_of("attention.output.dense", patterns) == "a"
    assert axes_of("other.output.dense", patterns) == "b"
    assert axes_of("dense", patterns) is None
