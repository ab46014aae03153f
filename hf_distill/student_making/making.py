"""Making a student of its teacher's weights, in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from hf_distill.strict_dataclass import to_mapping
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.evidence import Batch, gather_evidence
from hf_distill.student_making.families import family_of
from hf_distill.student_making.layer_choice import Layers, kept_layers
from hf_distill.student_making.names import layers_at
from hf_distill.student_making.origin import StudentOrigin
from hf_distill.student_making.sizes import narrowed_sizes, sizes_of, widths_of
from hf_distill.student_making.slicing import student_state
from hf_distill.student_making.student_config import student_config
from hf_distill.student_making.units import kept_units
from hf_distill.versions import package_versions


class MadeStudent(NamedTuple):
    """A student, and where it comes from."""

    model: PreTrainedModel
    origin: StudentOrigin


def make_student(
    teacher: PreTrainedModel,
    cut: StudentCut,
    *,
    batches: Sequence[Batch] = (),
    source: str | None = None,
    on_batch: Callable[[], None] | None = None,
) -> MadeStudent:
    """Cut a student out of a teacher, which stays as it is.

    Embeddings, heads, poolers, tables of positions and norms outside the layers are kept; tied weights stay tied. A
    student of all layers and the full width is the teacher, bit for bit.

    Without the layers or units that were cut, the student's logits are the teacher's exactly where those had no say:
    heads and neurons whose output weights are zero; hidden units that no weight reads and that leave mean and variance
    of the norms as they are (copies of the others). Zero hidden units do have a say: a norm divides by the width.

    Args:
        teacher: A model of a family that can be cut.
        cut: What stays.
        batches: Data to choose by, with labels for `sensitivity`, on the teacher's device; only looked at where the
            cut chooses by data.
        source: Who the teacher is, for the record; its own name by default.
        on_batch: Called whenever a batch has gone through the teacher.

    Raises:
        ValueError: The model cannot be cut, a size does not fit, or the cut chooses by data and there is none.
    """
    student_config(teacher.config, cut)
    evidence = None
    if cut.needs_data:
        evidence = gather_evidence(teacher, cut, batches, on_batch=on_batch)
    layers = kept_layers(teacher.config, cut, evidence.layers if evidence is not None else None)
    units, sizes = None, sizes_of(teacher.config)
    if cut.narrows:
        sizes = narrowed_sizes(teacher.config, cut)
        sensitivity = evidence.sensitivity if evidence is not None else None
        units = kept_units(teacher, cut, sizes, layers, sensitivity=sensitivity)
    config = student_config(teacher.config, cut, layers=layers)
    with torch.random.fork_rng(devices=[]):
        student = type(teacher)(config)
    student.load_state_dict(student_state(teacher, layers, units), assign=True)
    student.tie_weights()
    if teacher.can_generate():
        student.generation_config = copy.deepcopy(teacher.generation_config)
    student.train(teacher.training)
    return MadeStudent(student, _origin(teacher, student, cut, layers, source=source))


def _origin(
    teacher: PreTrainedModel, student: PreTrainedModel, cut: StudentCut, layers: Layers, *, source: str | None
) -> StudentOrigin:
    before, now = sizes_of(teacher.config), sizes_of(student.config)
    stacks = family_of(teacher.config).stacks
    there = [name for name, stack in stacks.items() if layers_at(teacher, stack)]
    return StudentOrigin(
        teacher=source or teacher.name_or_path or type(teacher).__name__,
        architecture=type(teacher).__name__,
        model_type=str(teacher.config.model_type),
        cut=to_mapping(cut),
        layers={name: layers[name] for name in there},
        layers_before={name: before.stacks[name].layers for name in there},
        widths={key: [size, widths_of(now)[key]] for key, size in widths_of(before).items()},
        teacher_parameters=parameter_count(teacher),
        parameters=parameter_count(student),
        versions=package_versions(),
    )


def parameter_count(model: PreTrainedModel) -> int:
    """Return the number of a model's parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
