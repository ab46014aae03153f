from __future__ import annotations

from typing import Any

import pytest

from hf_distill.recipe.overrides import apply_overrides
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.student_checks import adapter_export

SOUND: dict[str, Any] = {
    "output_dir": "runs/x",
    "task": {"name": "parity"},
    "teacher": {"source": "org/teacher@step*"},
    "student": {"model": {"from_teacher": {"layers": "spaced:3"}}},
    "curriculum": {"name": "one_shot"},
}
TRAINED = 'teacher={"train": {"model": {"architecture": "bert"}}}'
PRETRAINED = "student.model={pretrained: org/model}"
FRESH = "student.model={architecture: bert}"
LORA = "student.lora={r: 4}"
QUANTISED = "student.quantization={load_in_4bit: true}"


def recipe_of(*overrides: str) -> Recipe:
    return Recipe.from_dict(apply_overrides(SOUND, overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [TRAINED],
        ["student.model.from_teacher={layers: [1, 3], decoder_layers: 'last:1', hidden_size: 64, choose: norm}"],
        ["student.model.from_teacher={}"],
        ["curriculum.name=labels"],
        [PRETRAINED, LORA, QUANTISED, "student.export=merged"],
        [LORA, "student.export=adapter"],
        [FRESH, LORA, "student.export=merged"],
    ],
)
def test_a_sound_student_is_not_refused(overrides):
    recipe = recipe_of(*overrides)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["student.model={from_techer: {}}"],
            r"^student\.model\.from_techer: unknown key\. Did you mean `from_teacher`",
        ),
        (
            ["student.model.from_teacher.layer=first:1"],
            r"^student\.model\.from_teacher\.layer: .*Did you mean `layers`",
        ),
        (
            ["student.model.from_teacher.layers=frist:1"],
            r"^student\.model\.from_teacher: layers: .*Did you mean `first`",
        ),
        (
            ["student.model.from_teacher=spaced:3"],
            r"^student\.model\.from_teacher: expected what stays.*\{layers: spaced",
        ),
        (["student.model.pretrained=org/m"], r"^student\.model\.pretrained: does not go with `from_teacher`"),
        (["teacher=null", "curriculum.name=labels"], r"^student\.model\.from_teacher: there is no one teacher"),
        (["teacher={ensemble: {members: [{source: a}, {source: b}]}}"], r"there is no one teacher.*student make"),
        (["teacher={cached: org/targets}"], r"there is no one teacher"),
        ([QUANTISED], r"^student\.quantization: quantised weights are not trained; give `student\.lora`"),
        ([FRESH, LORA, QUANTISED], r"^student\.quantization: a fresh model has no weights"),
        ([PRETRAINED, LORA, "student.quantization={quant_method: quanto}"], r"^student\.quantization: .*load_in_4bit"),
        (["student.export=merged"], r"^student\.export: 'merged' is about an adapter; give `student\.lora`"),
        ([LORA, "student.export=merge"], r"^student\.export: expected 'merged' or 'adapter' or null, got 'merge'"),
        ([FRESH, LORA, "student.export=adapter"], r"^student\.export: an adapter alone is of no use without its base"),
    ],
)
def test_a_student_that_cannot_be_made_is_refused_with_what_to_do(overrides, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(*overrides)


@pytest.mark.parametrize(
    ("overrides", "export"),
    [
        ([PRETRAINED], None),
        ([PRETRAINED, LORA], "merged"),
        ([PRETRAINED, LORA, "student.export=adapter"], "adapter"),
        ([PRETRAINED, LORA, QUANTISED], "adapter"),
        ([PRETRAINED, LORA, QUANTISED, "student.export=merged"], "merged"),
    ],
)
def test_an_adapter_is_merged_unless_its_base_is_quantised(overrides, export):
    assert adapter_export(recipe_of(*overrides).student) == export
