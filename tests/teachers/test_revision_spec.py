from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.teachers.revision_spec import (
    Revision,
    expand_braces,
    is_pattern,
    matching,
    parse_spec,
    step_of,
    step_of_source,
    those_that_exist,
)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-300", 300),
        ("step300", 300),
        ("step-1", 1),
        ("step_20k", 20_000),
        ("step_1.5k", 1500),
        ("1.5M", 1_500_000),
        ("stage1-step1000-tokens5B", 1000),
        ("step1000-seed-1", 1000),
        ("seed-3-ckpt-70", 70),
        ("epoch-3", 3),
        ("main", None),
        ("final", None),
        ("v1.0", None),
        ("a1b2" * 10, None),
    ],
)
def test_step_in_a_revision_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("multiberts-seed_0-step_20k", 20_000),
        ("checkpoint-300", 300),
        ("300", 300),
        ("20k", 20_000),
        ("pythia-70m", None),
        ("bert-L4-H128", None),
        ("gpt2", None),
    ],
)
def test_size_in_a_model_name_is_not_taken_for_a_step(name: str, step: int | None) -> None:
    assert step_of_source(name) == step


@settings(derandomize=True, deadline=None)
@given(steps=st.lists(st.integers(0, 10**7), unique=True, min_size=1, max_size=20), data=st.data())
def test_names_are_sorted_as_numbers_whatever_their_order(steps: list[int], data: st.DataObject) -> None:
    names = data.draw(st.permutations([f"step{step}" for step in steps]))
    assert matching([*names, "main"], "*") == [*(f"step{step}" for step in sorted(steps)), "main"]


def test_pattern_leaves_other_names_out() -> None:
    assert matching(["step1", "Step2", "main", "x/step3"], "step*") == ["step1"]
    assert matching(["kd/step-2", "kd/step-10"], "kd/*") == ["kd/step-2", "kd/step-10"]
    assert is_pattern("step?") and is_pattern("[0-9]")
    assert not is_pattern("step-1")


def test_grammar() -> None:
    [spec] = parse_spec("org/model@step*,main:checkpoint-*,a/b")
    assert (spec.source, spec.is_folder) == ("org/model", False)
    assert spec.revisions == ("step*", "main")
    assert spec.subfolders == ("checkpoint-*", "a/b")
    [plain] = parse_spec(" gpt2 ")
    assert (plain.source, plain.revisions, plain.subfolders) == ("gpt2", (), ())


def test_braces_stand_for_alternatives_in_the_order_written() -> None:
    assert expand_braces("m-{20,40}k@{a,b}") == ["m-20k@a", "m-20k@b", "m-40k@a", "m-40k@b"]
    assert [spec.source for spec in parse_spec("org/m-step_{20,5}k")] == ["org/m-step_20k", "org/m-step_5k"]
    assert parse_spec("org/m@step{10, 5},main")[0].revisions == ("step10", "step5", "main")


def test_revision_named_twice_in_an_entry_stands_once() -> None:
    assert parse_spec("org/m@a,b,a")[0].revisions == ("a", "b")


def test_existing_folder_wins_over_the_grammar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "odd@name:x").mkdir(parents=True)
    assert parse_spec("org/odd@name:x")[0].source == "org/odd@name:x"
    [spec] = parse_spec("org@checkpoint-*")
    assert (spec.is_folder, spec.source, spec.revisions) == (True, "org", ("checkpoint-*",))
    assert parse_spec(Path("org"))[0].is_folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty text"),
        ("  ", "empty text"),
        ("./nope", r"nope is not there; expected a folder"),
        ("/a/b/c", "is not there"),
        ("a/b/c", "is not there"),
        ("a b/c", "neither a folder on this machine nor a model id"),
        ("org/m@x,org/n@y", "several models are a list"),
        ("org/m@../x", r"'\.\./x' is no revision"),
        ("org/m@a,,b", "'' is no revision"),
        ("org/m:../../x", "is no revision or subfolder"),
    ],
)
def test_nonsense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_spec(text)


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        parse_spec(tmp_path / "model.bin")


def test_existing_names_come_nearest_first_and_are_not_endless() -> None:
    text = those_that_exist((f"step{step}" for step in range(0, 3000, 100)), "step1010")
    assert text.startswith("step1000, step1100, step900")
    assert text.endswith("and 10 more")
    assert those_that_exist(["release", "main"], "mian") == "main, release"
    assert those_that_exist([], "main") == "there are none"


def test_revision_prints_short_and_without_its_stamp() -> None:
    revision = Revision(name="step3", step=3, source="org/m", revision="step3", commit="ab" * 20)
    assert str(revision) == "step3 of org/m (abababab)"
    local = Revision(name="final", step=None, source="runs/t", revision=None, commit="sha256:" + "cd" * 32)
    assert str(local) == "final of runs/t (sha256:cdcdcdcd)"
    assert "stamp" not in repr(local)
