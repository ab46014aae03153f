from __future__ import annotations

import dataclasses

from hf_distill.recipe.teacher_spec import AssistantTraining, EnsembleSpec, PrunedSpec, SelfTeacherSpec, TeacherSpec
from hf_distill.strict_dataclass import describe, from_mapping, to_mapping

MODEL = {"architecture": "bert", "config": {}}


def test_every_key_is_explained():
    for spec in (TeacherSpec, AssistantTraining, EnsembleSpec, PrunedSpec, SelfTeacherSpec):
        assert all(field.help.endswith(".") for field in describe(spec)), spec


def test_defaults_are_those_of_the_papers_and_of_the_classes():
    assert dataclasses.asdict(PrunedSpec()) == {"rate": 0.1, "weight": 0.7}
    assert AssistantTraining(model=MODEL).curriculum == {"name": "one_shot"}
    assert EnsembleSpec(members=[]).average == "probabilities"


def test_plain_data_reads_back_equal():
    mapping = {
        "train": {"model": MODEL},
        "assistants": [{"model": MODEL, "curriculum": {"name": "two_shot", "revision": "auto"}}],
        "route": {"difficulty": "entropy", "open": {"name": "linear", "start": 0.0, "stop": 2.0}},
        "pruned": {"rate": 0.2},
    }
    spec = from_mapping(TeacherSpec, mapping)
    assert from_mapping(TeacherSpec, to_mapping(spec)) == spec
    assert spec.is_one_model
    assert not TeacherSpec(self_teacher=SelfTeacherSpec(name="ema")).is_one_model
