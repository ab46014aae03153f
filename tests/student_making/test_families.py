from __future__ import annotations

import pytest
from student_cases import TEACHERS, teacher_of
from transformers import AutoConfig

from hf_distill.reading.layers import layers_of
from hf_distill.student_making.families import FAMILIES, family_of
from hf_distill.student_making.names import layers_at


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_keys_of_a_family_are_keys_of_its_configuration(kind):
    family, known = FAMILIES[kind], AutoConfig.for_model(kind).to_dict()
    keys = [family.hidden, family.scaled_embeddings, family.by_place]
    for stack in family.stacks.values():
        keys += [stack.layers, stack.heads, stack.neurons, stack.key_heads]
    assert [key for key in keys if key is not None and key not in known] == []


@pytest.mark.parametrize("name", TEACHERS)
def test_the_layers_are_those_that_curricula_read(name):
    teacher = teacher_of(name)
    first = next(iter(family_of(teacher.config).stacks.values()))
    assert layers_at(teacher, first) == list(layers_of(teacher))


def test_every_family_has_a_tiny_teacher_here_or_the_layout_of_one_that_has():
    tried = {teacher_of(name).config.model_type for name in TEACHERS}
    layouts = [FAMILIES[kind] for kind in tried]
    assert all(kind in tried or FAMILIES[kind] in layouts for kind in FAMILIES)
