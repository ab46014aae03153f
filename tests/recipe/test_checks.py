from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from sound_recipe import SOUND

from hf_distill.recipe.overrides import apply_overrides
from hf_distill.recipe.recipe import Recipe

TRAINED = 'teacher={"train": {"model": {"architecture": "parity_mlp"}}}'


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [TRAINED],
        ["teacher=null", "curriculum.name=labels"],
        ["curriculum=null", "compare={a: {name: labels}, b-2: {name: two_shot, training: {max_steps: 3}}}"],
        ["curriculum=null", "compare={labels: {}, one_shot: {}}"],
        ["teacher=null", "curriculum=null", "compare={labels: {}, other: {name: labels}}"],
        ["teacher.source=[a, b]"],
        ["teacher.source={revisions: 'org/m@main~*', every: 2, first: step100, last: 800, near_transition: 5}"],
        ["teacher.on_download_failure=wait", "teacher.max_cached_gb=20"],
        ["student.model={pretrained: org/model, revision: v1, dtype: float32, trust_remote_code: false}"],
        ["seeds=[0, 4294967295]"],
        ["level=1"],
    ],
)
def test_a_sound_recipe_is_not_refused(overrides: list[str]) -> None:
    assert Recipe.from_dict(apply_overrides(SOUND, overrides)).output_dir == "runs/x"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["output_dir=' '"], r"^output_dir: empty; give the folder"),
        (["name=' '"], r"^name: empty"),
        (["teacher.source={revisions: org/m, evry: 2}"], r"^teacher\.source\.evry: .*every"),
        (["teacher.source={revisions: org/m, every: 0}"], r"^teacher\.source: every: expected a whole number from 1"),
        (["teacher.max_cached_gb=0"], r"^teacher\.max_cached_gb: expected a number above 0, or null, got 0"),
        (["teacher.on_download_failure=skip"], r"^teacher\.on_download_failure: .*'skip'"),
        (
            ["teacher=null", "curriculum.name=lables"],
            r"^curriculum\.name: Unknown curriculum 'lables'\. Did you mean 'labels'",
        ),
        (
            ["teacher=null", "curriculum=null", "compare={labels: {}, x: {name: nope}}"],
            r"^compare\.x\.name: Unknown curriculum 'nope'",
        ),
        (["task={}"], r"^task\.name: expected the name of a task, got null"),
        (["task.name=3"], r"^task\.name: expected the name of a task, got 3 \(int\)"),
        (
            ["curriculum=null"],
            r"^curriculum: missing; give `curriculum: \{name: \.\.\.\}`, or several under `compare`",
        ),
        (["curriculum={}"], r"^curriculum\.name: expected the name of a curriculum, got null"),
        (["compare={labels: {}}"], r"^compare: `curriculum` is given too; move it into `compare`"),
        (["curriculum=null", "compare={}"], r"^compare: empty; give at least one"),
        (["curriculum=null", "compare={a/b: {}}"], r"^compare\.a/b: the label names a folder"),
        (["curriculum=null", "compare={..: {}}"], r"^compare\.\.\.: the label names a folder"),
        (["curriculum=null", "compare={a: {name: 3}}"], r"^compare\.a\.name: expected the name of a curriculum"),
        (["curriculum.training=3"], r"^curriculum\.training: expected a mapping of training arguments, got 3"),
        (["curriculum.training.seed=3"], r"^curriculum\.training\.seed: not here; use the top-level `seeds`"),
        (["training.output_dir=x"], r"^training\.output_dir: not here; use the recipe's top-level `output_dir`"),
        (["training.seed=3"], r"^training\.seed: not here; use the top-level `seeds`"),
        (["training.data_seed=3"], r"^training\.data_seed: not here"),
        (["training.curriculum={}"], r"^training\.curriculum: not here; use the top-level `curriculum`"),
        (["training.hub_token=secret"], r"^training\.hub_token: not here; .*hf auth login"),
        (
            [TRAINED, "teacher.train.training.seed=1"],
            r"^teacher\.train\.training\.seed: not here; .*teacher\.train\.seed",
        ),
        ([TRAINED, "teacher.train.seed=-1"], r"^teacher\.train\.seed: expected an int from 0 to 4294967295, got -1"),
        ([TRAINED, "teacher.train.model={}"], r"^teacher\.train\.model: give either `architecture`"),
        ([TRAINED, "teacher.source=x"], r"^teacher: both `source` and `train` are given; keep one"),
        (["teacher={}"], r"^teacher: give `source` .* or `train`"),
        (["teacher.source=[]"], r"^teacher\.source: expected a repository or folder"),
        (["teacher.source=[a, '']"], r"^teacher\.source: expected a repository or folder"),
        (["teacher=null"], r"^teacher: missing, but curriculum is 'two_shot', which learns from one\. Give `teacher"),
        (
            ["teacher=null", "curriculum=null", "compare={labels: {}, b: {name: one_shot}}"],
            r"but compare\.b is 'one_shot'",
        ),
        (["seeds=[]"], r"^seeds: empty; give at least one"),
        (["seeds=[1, 2, 1]"], r"^seeds: \[1, 2, 1\] would train the same student twice"),
        (["seeds=[0, -1]"], r"^seeds\[1\]: expected an int from 0"),
        (["seeds=[4294967296]"], r"^seeds\[0\]: expected an int from 0"),
        (["student.model={}"], r"^student\.model: give either `architecture` .* got neither"),
        (["student.model.pretrained=x"], r"got architecture and pretrained"),
        (["student.model.architecture=3"], r"^student\.model\.architecture: expected text, got 3"),
        (["student.model.cofnig={}"], r"^student\.model\.cofnig: unknown key\. Did you mean `config`\?"),
        (["student.model.revision=v1"], r"^student\.model\.revision: does not go with `architecture`; remove it"),
        (["student.model={pretrained: x, config: {}}"], r"^student\.model\.config: does not go with `pretrained`"),
        (["training.learning_rate=.nan"], r"^training\.learning_rate: expected a finite number, got nan"),
        (["task.rates=[1, .inf]"], r"^task\.rates\[1\]: expected a finite number"),
        (["task={name: x, 3: y}"], r"^task, key 3: expected text, got 3 \(int\)\. Put it in quotes"),
        (["task={name: x, a: {3: y}}"], r"^task\.a: the key 3 is not text; put it in quotes"),
    ],
)
def test_a_recipe_that_cannot_be_run_says_what_to_do(overrides: list[str], message: str) -> None:
    mapping = apply_overrides(SOUND, overrides)
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(mapping)


@pytest.mark.parametrize("value", [math.inf, datetime.date(2026, 1, 1), {1, 2}, object(), [object()]])
def test_what_yaml_and_json_cannot_keep_is_refused_in_free_blocks(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^training\.x(\[0\])?: expected"):
        Recipe.from_dict({**SOUND, "training": {"x": value}})


def test_a_misplaced_token_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError, match="hub_token") as caught:
        Recipe.from_dict({**SOUND, "training": {"hub_token": "secret-value"}})
    assert "secret-value" not in str(caught.value)


def test_checks_hold_for_recipes_built_in_python_too() -> None:
    sound = Recipe.from_dict(SOUND)
    with pytest.raises(ValueError, match=r"^seeds: empty"):
        Recipe(output_dir="x", task=sound.task, student=sound.student, curriculum={"name": "labels"}, seeds=[])
