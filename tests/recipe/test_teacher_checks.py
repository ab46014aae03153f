from __future__ import annotations

from typing import Any

import pytest
from sound_recipe import SOUND

from hf_distill.recipe.recipe import Recipe

MODEL = {"architecture": "parity_mlp", "config": {"width": 64}}
TRAIN = {"train": {"model": MODEL}}
MEMBERS = {"members": [{"source": "org/a"}, TRAIN]}
ASSISTANT = {"model": MODEL, "training": {"max_steps": 10}}


def recipe_with(teacher: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.from_dict({**SOUND, "curriculum": {"name": "one_shot"}, "teacher": teacher, **changes})


@pytest.mark.parametrize(
    "teacher",
    [
        {"source": "org/a", "assistants": [ASSISTANT, {**ASSISTANT, "curriculum": {"name": "two_shot"}, "seed": 3}]},
        {**TRAIN, "assistants": [ASSISTANT], "route": {}},
        {**TRAIN, "assistants": [{**ASSISTANT, "curriculum": {"name": "labels"}}], "route": {"difficulty": "entropy"}},
        {**TRAIN, "assistants": [ASSISTANT], "route": {"open": {"name": "linear", "start": 0, "stop": 2}}},
        {**TRAIN, "pruned": {"rate": 0.2}, "assistants": [ASSISTANT]},
        {"source": "org/a", "quantization": {"load_in_4bit": True}, "compile": "aot_eager"},
        {**TRAIN, "offload": True, "compile": True},
        {**TRAIN, "sharded": True, "dtype": "bfloat16", "assistants": [ASSISTANT]},
        {"ensemble": MEMBERS},
        {"ensemble": {**MEMBERS, "weights": [1, 2], "average": "logits"}, "assistants": [ASSISTANT]},
        {"self_teacher": {"name": "ema", "decay": 0.99, "warmup": False}},
        {"source": "org/a", "cached": True},
        {**TRAIN, "cached": "org/targets", "assistants": [ASSISTANT]},
        {**TRAIN, "cached": False},
        {"cached": "runs/targets"},
        {"cached": True},
    ],
)
def test_a_teacher_that_can_be_made_is_not_refused(teacher):
    recipe = recipe_with(teacher)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_an_adapter_is_switched_off_where_there_is_one():
    student = {**SOUND["student"], "lora": {"r": 4}}
    assert recipe_with({"self_teacher": {"name": "adapter_off"}}, student=student).student.lora == {"r": 4}
    with pytest.raises(ValueError, match=r"^teacher\.self_teacher: the student has no adapter .*give `student\.lora`"):
        recipe_with({"self_teacher": {"name": "adapter_off"}})


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"source": "a", "ensemble": MEMBERS}, r"^teacher\.ensemble: stands in the place of `source`, which is given"),
        ({**TRAIN, "self_teacher": {"name": "ema"}}, r"^teacher\.self_teacher: stands in the place of `train`"),
        ({"ensemble": MEMBERS, "self_teacher": {"name": "ema"}}, r"^teacher\.self_teacher: .* of `ensemble`"),
        ({"cached": False}, r"^teacher: give `source`"),
        ({**TRAIN, "offload": True, "quantization": {"load_in_8bit": True}}, r"^teacher\.offload: quantized weights"),
        (
            {"ensemble": {"members": [TRAIN, {**TRAIN, "offload": True, "quantization": {"load_in_8bit": True}}]}},
            r"^teacher\.ensemble\.members\[1\]\.offload: quantized weights",
        ),
        ({**TRAIN, "offload": True, "pruned": {}}, r"^teacher\.offload: a second copy of the teacher is pruned"),
        ({"self_teacher": {"name": "ema"}, "offload": True}, r"^teacher\.offload: belongs to a `source` or `train`"),
        ({**TRAIN, "sharded": True, "pruned": {}}, r"^teacher\.sharded: a second copy of the teacher is pruned"),
        ({**TRAIN, "sharded": True, "offload": True}, r"^teacher\.sharded: its pieces lie on the CPU where"),
        ({**TRAIN, "sharded": True, "compile": "inductor"}, r"^teacher\.sharded: a compiled body"),
        (
            {"ensemble": {"members": [TRAIN, {**TRAIN, "sharded": True, "quantization": {"load_in_8bit": True}}]}},
            r"^teacher\.ensemble\.members\[1\]\.sharded: quantized weights",
        ),
        ({"source": "org/a", "cached": " "}, r"^teacher\.cached: empty; give a folder"),
        ({"source": "org/a", "cached": 3}, r"^teacher\.cached: expected"),
        ({"self_teacher": {"name": "ema"}, "cached": True}, r"^teacher\.cached: a student that teaches itself"),
        ({"cached": True, "pruned": {}}, r"^teacher\.cached: without `source` or `train`"),
        ({"cached": "x", "assistants": [ASSISTANT]}, r"^teacher\.cached: without `source` or `train`"),
        ({"pruned": {}}, r"^teacher: give `source` .* or `train` .*, or an `ensemble` or a `self_teacher`"),
        ({"ensemble": MEMBERS, "pruned": {}}, r"^teacher\.pruned: goes with one teacher, .* not with an `ensemble`"),
        ({"ensemble": MEMBERS, "tokenizer": "x"}, r"^teacher\.tokenizer: .*with `ensemble`, put it into the members"),
        (
            {"self_teacher": {"name": "ema"}, "dtype": "bfloat16"},
            r"^teacher\.dtype: .*with `self_teacher`, leave it out",
        ),
        ({"ensemble": {"members": [TRAIN]}}, r"^teacher\.ensemble\.members: expected two teachers or more"),
        ({"ensemble": {"members": [TRAIN, {}]}}, r"^teacher\.ensemble\.members\[1\]: give either `source`"),
        ({"ensemble": {"members": [TRAIN, {"source": ""}]}}, r"^teacher\.ensemble\.members\[1\]\.source: expected a"),
        (
            {"ensemble": {"members": [TRAIN, {"source": {"revisions": "org/m", "near_transition": 2}}]}},
            r"^teacher\.ensemble\.members\[1\]\.source\.near_transition: a member answers with its final",
        ),
        (
            {"ensemble": {"members": [TRAIN, {"train": {"model": {}}}]}},
            r"^teacher\.ensemble\.members\[1\]\.train\.model: give either `architecture`",
        ),
        ({"ensemble": {**MEMBERS, "weights": [1]}}, r"^teacher\.ensemble\.weights: expected one a member, 2, got 1"),
        (
            {"ensemble": {**MEMBERS, "avrage": "x"}},
            r"^teacher\.ensemble\.avrage: unknown key\. Did you mean `average`",
        ),
        ({"ensemble": {**MEMBERS, "average": "votes"}}, r"^teacher\.ensemble\.average: expected 'probabilities' or"),
        (
            {**TRAIN, "route": {}},
            r"^teacher\.route: there is nobody to choose among but the teacher; give `assistants`",
        ),
        (
            {**TRAIN, "assistants": [ASSISTANT], "route": {"open": 3}},
            r"^teacher\.route\.open: must stay within 0 and the 2 experts of the ladder",
        ),
        ({**TRAIN, "assistants": [ASSISTANT], "route": {"edges": []}}, r"^teacher\.route\.edges: unknown key"),
        (
            {**TRAIN, "assistants": [{**ASSISTANT, "curriculum": {"name": "labels"}}]},
            r"^teacher\.assistants\[0\]\.curriculum: an assistant that learns from labels hands on nothing",
        ),
        (
            {**TRAIN, "assistants": [ASSISTANT, {**ASSISTANT, "curriculum": {}}]},
            r"^teacher\.assistants\[1\]\.curriculum\.name: expected the name of a curriculum",
        ),
        (
            {**TRAIN, "assistants": [{**ASSISTANT, "curriculum": {"name": "one_shot", "training": {}}}]},
            r"^teacher\.assistants\[0\]\.curriculum\.training: .* go into teacher\.assistants\[0\]\.training",
        ),
        (
            {**TRAIN, "assistants": [{**ASSISTANT, "training": {"seed": 1}}]},
            r"^teacher\.assistants\[0\]\.training\.seed: not here",
        ),
        (
            {**TRAIN, "assistants": [{**ASSISTANT, "seed": -1}]},
            r"^teacher\.assistants\[0\]\.seed: expected an int from",
        ),
        ({**TRAIN, "assistants": [{"training": {}}]}, r"^teacher\.assistants\[0\]\.model: missing"),
        ({**TRAIN, "assistants": {}}, r"^teacher\.assistants: expected .*list"),
        ({"self_teacher": {"name": "ema"}, "pruned": {}}, r"^teacher\.pruned: needs a teacher by `source` or `train`"),
        (
            {"self_teacher": {"name": "ema"}, "assistants": [ASSISTANT]},
            r"^teacher\.assistants: needs a teacher by `source` or `train`",
        ),
        ({"self_teacher": {"name": "emma"}}, r"^teacher\.self_teacher\.name: expected 'ema' or 'adapter_off'.*ema"),
        (
            {"self_teacher": {"name": "adapter_off", "decay": 0.9}},
            r"^teacher\.self_teacher\.decay: belongs to `ema`, and not to 'adapter_off'",
        ),
    ],
)
def test_a_teacher_that_cannot_be_made_says_what_to_do(teacher, message):
    with pytest.raises(ValueError, match=message):
        recipe_with(teacher)
