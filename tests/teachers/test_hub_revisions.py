"""The real Hub client offline, on caches with its own layout; what needs a server is in test_hub_repository.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from teacher_folders import cache_model, commit_of, cut, save_pickled_teacher, save_teacher

from hf_distill.teachers.hub_revisions import resolve_hub_spec
from hf_distill.teachers.revision_spec import Revision, parse_spec

MODEL = "org/model"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folders = {name: save_teacher(tmp_path / "saved" / name, seed=seed) for seed, name in enumerate("abc")}
    revisions = {"step1000": folders["c"], "step200": folders["b"], "step30": folders["a"], "kd/step-1": folders["a"]}
    cache_model(tmp_path / "cache", MODEL, revisions)
    return tmp_path / "cache"


def resolve(text: str, cache: Path, **options: bool) -> list[Revision]:
    [spec] = parse_spec(text)
    return resolve_hub_spec(spec, cache_dir=cache, **options).revisions


def test_pattern_finds_cached_revisions_in_the_order_of_their_steps(cache: Path) -> None:
    found = resolve(f"{MODEL}@step*", cache)
    assert [revision.step for revision in found] == [30, 200, 1000]
    assert [revision.commit for revision in found] == [commit_of(f"{MODEL}@step{step}") for step in (30, 200, 1000)]
    for revision in found:
        assert revision.folder is not None
        assert (revision.folder / "model.safetensors").is_file()
        assert revision.folder.name == revision.commit
        assert (revision.name, revision.source) == (revision.revision, MODEL)


def test_named_revisions_keep_their_order(cache: Path) -> None:
    found = resolve(f"{MODEL}@step200,kd/step-1,step30", cache)
    assert [revision.name for revision in found] == ["step200", "kd/step-1", "step30"]


def test_commit_can_be_asked_for_by_its_hash(cache: Path) -> None:
    commit = commit_of(f"{MODEL}@step30")
    [revision] = resolve(f"{MODEL}@{commit}", cache)
    assert (revision.commit, revision.step) == (commit, None)


def test_pattern_for_all_does_not_repeat_the_last_step_as_main(cache: Path, tmp_path: Path) -> None:
    storage = cache_model(cache, MODEL, {})
    (storage / "refs" / "main").write_text(commit_of(f"{MODEL}@step1000"))
    assert [revision.name for revision in resolve(f"{MODEL}@step*,m*", cache)] == ["step30", "step200", "step1000"]
    assert [revision.name for revision in resolve(f"{MODEL}@step1000,main", cache)] == ["step1000", "main"]


def test_revision_that_is_not_cached_says_which_command_downloads_it(cache: Path) -> None:
    with pytest.raises(ValueError, match="'step210' of org/model is not in the cache") as caught:
        resolve(f"{MODEL}@step210", cache)
    message = str(caught.value)
    assert "offline mode is on" in message
    assert f"hf download {MODEL} --revision step210 --cache-dir {cache}" in message
    assert "In the cache: step200, step30" in message
    assert "nor is there a folder org/model" in str(caught.value)


def test_model_that_is_not_cached_at_all_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are none.*hf download org/none --revision main"):
        resolve("org/none", tmp_path)


def test_pattern_without_a_match_lists_what_there_is(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"no branch or tag of org/model matches 'epoch\*'.*There: .*step200"):
        resolve(f"{MODEL}@epoch*", cache)


def test_revision_known_but_not_downloaded_is_never_skipped(cache: Path) -> None:
    cache_model(cache, MODEL, {"step40": None, "step50": None})
    with pytest.raises(ValueError, match="--revision step40") as caught:
        resolve(f"{MODEL}@step*", cache)
    assert "--revision step50" in str(caught.value)
    assert "--revision step30" not in str(caught.value)


def test_truncated_file_in_the_cache_is_found(cache: Path) -> None:
    snapshot = cache / "models--org--model" / "snapshots" / commit_of(f"{MODEL}@step30")
    cut(snapshot / "model.safetensors", 3000)
    with pytest.raises(ValueError, match=r"step30 of org/model .* not whole in the cache \(model\.safetensors is cut"):
        resolve(f"{MODEL}@step30", cache)


def test_repository_of_pickled_weights_is_refused_with_the_name_of_the_option(tmp_path: Path) -> None:
    cache_model(tmp_path / "cache", MODEL, {"main": save_pickled_teacher(tmp_path / "old")})
    with pytest.raises(ValueError, match=r"main of org/model .* cannot be a teacher.*allow_pickled_weights"):
        resolve(MODEL, tmp_path / "cache")
    [revision] = resolve(MODEL, tmp_path / "cache", allow_pickled_weights=True)
    assert revision.folder is not None


def test_sub_folders_of_one_commit_are_revisions(tmp_path: Path) -> None:
    root = tmp_path / "saved"
    for step in (100, 20):
        save_teacher(root / f"checkpoint-{step}", seed=step)
    save_teacher(root, seed=100)
    cache_model(tmp_path / "cache", MODEL, {"main": root})
    found = resolve(f"{MODEL}:checkpoint-*", tmp_path / "cache")
    assert [(revision.name, revision.step) for revision in found] == [("checkpoint-20", 20), ("checkpoint-100", 100)]
    for revision in found:
        assert revision.subfolder == revision.name
        assert revision.folder is not None
        assert (revision.folder / "config.json").is_file()
    assert len({revision.commit for revision in found}) == 1
    with pytest.raises(ValueError, match=r"no folder 'checkpoint-7'\. Folders: checkpoint-20, checkpoint-100"):
        resolve(f"{MODEL}@main:checkpoint-7", tmp_path / "cache")


def test_reference_that_holds_no_commit_is_refused(cache: Path) -> None:
    (cache / "models--org--model" / "refs" / "step30").write_text("../../elsewhere")
    with pytest.raises(ValueError, match="which is no commit"):
        resolve(f"{MODEL}@step30", cache)
