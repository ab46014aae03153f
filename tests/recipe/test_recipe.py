from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sound_recipe import SOUND

from hf_distill.recipe.recipe import Recipe, RecipeInfo, available_recipes, find_recipe
from hf_distill.recipe.strict_yaml import load_yaml
from hf_distill.recipe.teacher_spec import StopAt
from hf_distill.strict_dataclass import describe

TEXT = """\
description: a comparison
output_dir: runs/parity
task: {name: parity, dimensions: 50}
teacher:
  train:
    model: {architecture: parity_mlp, config: {width: 1000}}
    training: {learning_rate: 1e-1}
    stop_at: {metric: accuracy, level: 0.999}
student:
  model: {architecture: parity_mlp, config: {width: 32}}
compare:
  labels: {}
  two: {name: two_shot, revision: auto, training: {max_steps: 1200}}
training: {learning_rate: 5E-4, max_steps: 100}
seeds: [0, 1, 2]
level: 0.99
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "parity-two.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_recipe_file_is_read_with_its_numbers_and_blocks(file: Path) -> None:
    recipe = Recipe.load(file)
    assert recipe.name == "parity-two"
    assert recipe.teacher is not None and recipe.teacher.train is not None
    assert recipe.teacher.train.training["learning_rate"] == 0.1
    assert recipe.teacher.train.stop_at == StopAt(metric="accuracy", level=0.999)
    assert recipe.training == {"learning_rate": 5e-4, "max_steps": 100}
    assert recipe.seeds == [0, 1, 2] and recipe.report.enabled


def test_overrides_are_applied_before_the_checks(file: Path) -> None:
    recipe = Recipe.load(file, overrides=["compare=null", "curriculum.name=labels", "teacher=null", "name=other"])
    assert recipe.curricula() == {"labels": {"name": "labels"}}
    assert recipe.name == "other"


def test_an_unknown_key_from_an_override_is_found_and_names_the_override(file: Path) -> None:
    message = r"parity-two\.yaml with teacher\.train\.stop_at\.levle set: teacher\.train\.stop_at\.levle: unknown key"
    with pytest.raises(ValueError, match=message + r"\. Did you mean `level`\?"):
        Recipe.load(file, overrides=["teacher.train.stop_at.levle=1"])


def test_a_token_given_on_the_command_line_is_not_repeated_in_the_message(file: Path) -> None:
    with pytest.raises(ValueError, match="hub_token") as caught:
        Recipe.load(file, overrides=["training.hub_token=secret-value"])
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"is empty; a recipe needs at least output_dir, task, student"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", r"expected a mapping of keys to values at the top, got \['a', 'b'\] \(list\)"),
        ("output_dir: [x\n", r"line 2, column 1"),
        ("output_dir: x\noutput_dir: y\n", "line 2, column 1: duplicate key `output_dir`, first given on line 1"),
        ("output_dir: x\n", "task: missing; expected mapping"),
        (TEXT.replace("seeds:", "sedes:"), r"sedes: unknown key\. Did you mean `seeds`\?"),
        (TEXT.replace("[0, 1, 2]", "3"), r"seeds: expected list of int, got 3 \(int\)\. Write it in square brackets"),
        (TEXT.replace("level: 0.99\n", "level: high\n"), "level: expected float or null, got 'high'"),
        (TEXT.replace("output_dir: runs/parity", "output_dir: !!python/name:os.system"), "could not determine"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_bytes(b"\x80\xff\x00")
    with pytest.raises(ValueError, match=r"weights\.yaml is not UTF-8 text"):
        Recipe.load(path)


def test_a_byte_order_mark_does_not_become_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_text("\ufeff" + TEXT, encoding="utf-8")
    assert Recipe.load(path).description == "a comparison"


def test_saving_and_loading_changes_nothing(file: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(file)
    saved = recipe.save(tmp_path / "again.yaml")
    assert Recipe.load(saved) == recipe
    assert Recipe.load(saved).to_yaml() == saved.read_text(encoding="utf-8")
    assert yaml.safe_load(saved.read_text(encoding="utf-8")) == recipe.to_dict()


def test_a_recipe_does_not_share_its_blocks_with_the_caller(file: Path) -> None:
    mapping = load_yaml(TEXT, source="x")
    recipe = Recipe.from_dict(mapping)
    recipe.training["max_steps"] = 7
    recipe.curricula()["two"]["extra"] = 1
    assert mapping["training"]["max_steps"] == 100
    assert recipe.compare is not None and "extra" not in recipe.compare["two"]


def test_a_recipe_without_name_is_named_after_its_folder() -> None:
    mapping = load_yaml(TEXT, source="x")
    assert Recipe.from_dict(mapping).name == "parity"


def test_labels_name_the_curricula_that_do_not_name_themselves(file: Path) -> None:
    assert Recipe.load(file).curricula() == {
        "labels": {"name": "labels"},
        "two": {"name": "two_shot", "revision": "auto", "training": {"max_steps": 1200}},
    }


def test_a_single_curriculum_is_labelled_by_its_name(file: Path) -> None:
    recipe = Recipe.load(file, overrides=["compare=null", "curriculum={name: one_shot, training: {max_steps: 3}}"])
    assert recipe.curricula() == {"one_shot": {"name": "one_shot", "training": {"max_steps": 3}}}


@pytest.mark.parametrize(
    "same",
    ["name=x", "output_dir=elsewhere", "description=x", "paper=x", "report.enabled=false", "teacher.cached=true"],
)
def test_a_moved_or_renamed_run_is_still_the_same_run(file: Path, same: str) -> None:
    assert Recipe.load(file, overrides=[same]).fingerprint() == Recipe.load(file).fingerprint()


@pytest.mark.parametrize(
    "other",
    ["seeds=[0]", "training.max_steps=101", "task.dimensions=51", "compare.two.revision=x", "teacher.dtype=float32"],
)
def test_a_changed_setting_is_another_run(file: Path, other: str) -> None:
    assert Recipe.load(file, overrides=[other]).fingerprint() != Recipe.load(file).fingerprint()


def test_which_cache_stands_for_a_teacher_without_a_source_makes_another_run(file: Path) -> None:
    first, second = (Recipe.load(file, overrides=[f"teacher={{cached: {name}}}"]) for name in ("org/a", "org/b"))
    assert first.fingerprint() != second.fingerprint()


def test_the_order_of_keys_and_written_out_defaults_do_not_make_another_run(file: Path) -> None:
    recipe = Recipe.load(file)
    turned = Recipe.from_dict(dict(reversed(recipe.to_dict().items())))
    assert turned.fingerprint() == recipe.fingerprint()


def test_every_key_of_a_recipe_has_help() -> None:
    without = [line.name for line in describe(Recipe) if not line.help]
    assert without == []


def test_the_packages_recipes_are_listed_and_load_by_name() -> None:
    infos = available_recipes()
    assert "parity/quickstart" in [info.name for info in infos]
    for info in infos:
        assert isinstance(info, RecipeInfo)
        assert info.description and "\n" not in info.description
        assert Recipe.load(info.name).description == info.description


@pytest.mark.parametrize("name", ["parity/quickstart", "parity/quickstart.yaml", "recipes/parity/quickstart.yaml"])
def test_a_packaged_recipe_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name).parts[-3:] == ("recipes", "parity", "quickstart.yaml")


def test_a_file_of_ones_own_goes_before_a_packaged_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "parity" / "quickstart"
    own.parent.mkdir()
    own.write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert find_recipe(os.path.join("parity", "quickstart")).resolve() == own


@pytest.mark.parametrize("name", ["parity/quikstart", "quickstart", "Parity/Quickstart", "missing/parity/quickstart"])
def test_a_misspelt_recipe_gets_a_hint_and_the_list(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"is neither a file nor .* Did you mean `parity/quickstart`\? Recipes that come"
    ):
        Recipe.load(name)


def test_a_folder_is_not_taken_for_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder\..* Recipes that come with hf_distill: .*parity/quickstart"):
        Recipe.load(tmp_path)


def test_the_folder_of_a_run_is_answered_with_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(TEXT, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"is a folder\. Did you mean `.*recipe\.yaml`, the recipe of the run in it\?"
    ):
        Recipe.load(tmp_path)


def test_launch_configurations_are_not_listed_as_recipes() -> None:
    assert not [info.name for info in available_recipes() if info.name.startswith("accelerate/")]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), FINITE, WORDS)
OPTIONS = st.dictionaries(WORDS.map("x".__add__), PLAIN | st.lists(PLAIN, max_size=2), max_size=3)
NAMED = st.builds(lambda name, options: {**options, "name": name}, st.sampled_from(["a", "on", "1e-3"]), OPTIONS)
MODELS = st.one_of(
    st.builds(lambda config: {"architecture": "bert", "config": config}, OPTIONS), st.just({"pretrained": "1e3"})
)
TEACHERS = st.one_of(
    st.fixed_dictionaries({"source": st.sampled_from(["a/b", ["a", "2024-01-01"]])}),
    st.fixed_dictionaries({"train": st.fixed_dictionaries({"model": MODELS, "training": OPTIONS})}),
)
LABELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True)
CURRICULA = st.one_of(
    st.fixed_dictionaries({"curriculum": NAMED}),
    st.fixed_dictionaries({"compare": st.dictionaries(LABELS, NAMED, min_size=1, max_size=3)}),
)
RECIPES = st.builds(
    lambda curricula, fields: {**fields, **curricula},
    CURRICULA,
    st.fixed_dictionaries(
        {
            "output_dir": WORDS.map("o".__add__),
            "task": NAMED,
            "teacher": TEACHERS,
            "student": st.fixed_dictionaries({"model": MODELS}),
            "training": OPTIONS,
            "seeds": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True),
        },
        optional={
            "name": WORDS.map("n".__add__),
            "description": st.none() | WORDS,
            "level": st.none() | FINITE,
            "report": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "title": st.none() | WORDS}),
        },
    ),
)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=50)
@given(RECIPES)
def test_yaml_to_recipe_to_yaml_is_a_fixed_point(mapping: dict[str, Any]) -> None:
    recipe = Recipe.from_dict(mapping)
    text = recipe.to_yaml()
    again = Recipe.from_dict(load_yaml(text, source="x"))
    assert again == recipe
    assert again.to_yaml() == text
    assert again.fingerprint() == recipe.fingerprint()


def test_a_curriculum_has_one_place() -> None:
    single = Recipe.from_dict(SOUND)
    assert single.curriculum_path("one_shot") == "curriculum"
    compared = Recipe.from_dict({**SOUND, "curriculum": None, "compare": {"a": {"name": "labels"}}})
    assert compared.curriculum_path("a") == "compare.a"
