from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import distill_config
from teaching_recipes import TEACHERS, assistant, teaching_recipe, trained

from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.stand_ins import StandIns, promised_revisions
from hf_distill.pipeline.workspace import Workspace
from hf_distill.teachers import TeacherSource


def test_promised_revisions_are_those_the_trainer_writes(tmp_path):
    def promised(**settings: Any) -> list[str]:
        return [revision.name for revision in promised_revisions(distill_config(tmp_path, **settings))]

    steps = {"save_strategy": "steps", "max_steps": 50}
    assert promised(**steps, save_steps=20) == ["checkpoint-20", "checkpoint-40", "checkpoint-50"]
    assert promised(**steps, save_steps=25) == ["checkpoint-25", "checkpoint-50"]
    assert promised(**steps, save_steps=0.5) == []
    assert promised(save_strategy="epoch", max_steps=50) == []
    assert promised(save_strategy="steps", save_steps=20, max_steps=-1) == []


def source_of(folder: Path, teacher: dict[str, Any]) -> TeacherSource:
    recipe = teaching_recipe(folder, "takd", teacher=teacher)
    assert recipe.teacher is not None
    return StandIns(recipe.teacher, task_of(recipe), Workspace(folder)).source()


@pytest.mark.parametrize(
    ("kind", "made", "names"),
    [
        ("takd", "LiveTeacher", ["checkpoint-12", "checkpoint-24"]),
        ("ladder", "LadderTeacher", ["ladder"]),
        ("ensemble", "EnsembleTeacher", ["ensemble"]),
        ("pruned_mix", "PrunedMixTeacher", ["checkpoint-20", "checkpoint-40", "checkpoint-60"]),
        ("ema", "EmaTeacher", ["ema"]),
    ],
)
def test_what_stands_in_is_of_the_kind_and_has_the_revisions_that_will_be(tmp_path, kind, made, names):
    source = source_of(tmp_path, TEACHERS[kind])
    assert type(source).__name__ == made
    assert [revision.name for revision in source.revisions] == names


def test_a_training_that_does_not_tell_its_checkpoints_has_no_revisions(tmp_path):
    """Epochs are only known with the data; nothing is refused then that may work."""
    vague = trained(64)
    vague["training"] = {**vague["training"], "save_strategy": "epoch"}
    for teacher in ({"train": vague}, {"train": vague, "pruned": {}}):
        assert list(source_of(tmp_path, teacher).revisions) == []
    ladder = {"train": vague, "assistants": [assistant(40)], "route": {}}
    assert [revision.name for revision in source_of(tmp_path, ladder).revisions] == ["ladder"]
