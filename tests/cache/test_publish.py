from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import distill_trainer, flat_weights
from cache_cases import FLOAT_HIDDEN, LOGITS, Case, settings, write_cache
from hub_client import Caller
from hub_push import Shown, _quick, shown
from hub_server import Fault, HubServer

from hf_distill.cache.format import MANIFEST, Manifest
from hf_distill.cache.publish import public_manifest, push_cache, targets_card
from hf_distill.hub.hub_writer import HubWriter
from hf_distill.teachers.cached import CachedTeacher


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_cache(tmp_path_factory.mktemp("published"), "masked_lm", FLOAT_HIDDEN)


def push(folder: Path, repo_id: str, *, tries: int = 8, **options: Any) -> Shown:
    """Run `push_cache` with short waits."""
    writer = HubWriter(repo_id, backoff=_quick(tries), repo_type="dataset")
    return shown(lambda: push_cache(folder, writer, **options))


def train_from_hub(repo_id: str, folder: Path, case: Case) -> list[float]:
    """Train a student with the targets of a data set; return its weights."""
    teacher = CachedTeacher(repo_id, show_progress=False)
    trainer = distill_trainer(folder, "masked_lm", teacher=teacher, train_dataset=case.data, **settings())
    trainer.train()
    return flat_weights(trainer.model).tolist()


def files_of(server: HubServer, repo_id: str) -> dict[str, bytes]:
    commit = server.store.get(f"datasets/{repo_id}").resolve("main")
    return {path: server.store.blobs[digest] for path, digest in commit.files.items() if path != ".gitattributes"}


@pytest.mark.hub
def test_a_pushed_cache_teaches_what_the_local_one_does(
    server: HubServer, client: Caller, repo_id: str, case: Case, tmp_path: Path
) -> None:
    assert client(push, case.cache, repo_id).error is None
    from_hub = client(train_from_hub, repo_id, tmp_path / "hub", case)
    local = distill_trainer(
        tmp_path / "local", "masked_lm", teacher=CachedTeacher(case.cache), train_dataset=case.data, **settings()
    )
    local.train()
    assert from_hub == flat_weights(local.model).tolist()


@pytest.mark.hub
def test_all_files_and_a_card_are_pushed_and_the_list_last(
    server: HubServer, client: Caller, repo_id: str, case: Case
) -> None:
    assert client(push, case.cache, repo_id).error is None
    kept = files_of(server, repo_id)
    local = {p.relative_to(case.cache).as_posix(): p.read_bytes() for p in case.cache.rglob("*") if p.is_file()}
    assert kept.keys() == {*local, "README.md"}
    assert all(kept[path] == content for path, content in local.items() if path != MANIFEST)
    first, *_, last = server.store.get(f"datasets/{repo_id}").history("main")[::-1]
    added = set(last.files) - set(server.store.get(f"datasets/{repo_id}").commits[last.parent].files)
    assert {MANIFEST, "README.md"} <= added
    assert first.title == "initial commit"


@pytest.mark.hub
def test_pushing_again_changes_nothing(server: HubServer, client: Caller, repo_id: str, case: Case) -> None:
    client(push, case.cache, repo_id)
    before = dict(server.store.get(f"datasets/{repo_id}").commits)
    again = client(push, case.cache, repo_id)
    assert again.error is None
    assert not again.result.new
    assert server.store.get(f"datasets/{repo_id}").commits == before


@pytest.mark.hub
def test_files_that_an_earlier_version_had_are_removed(
    server: HubServer, client: Caller, repo_id: str, case: Case, tmp_path: Path
) -> None:
    client(push, case.cache, repo_id)
    other = write_cache(tmp_path, "masked_lm", {"name": "top_k", "k": 3})
    client(push, other.cache, repo_id)
    local = {p.relative_to(other.cache).as_posix() for p in other.cache.rglob("*") if p.is_file()}
    assert files_of(server, repo_id).keys() == {*local, "README.md"}


@pytest.mark.hub
def test_a_push_that_is_cut_off_leaves_no_list_and_goes_on(
    server: HubServer, client: Caller, repo_id: str, case: Case
) -> None:
    server.faults.append(Fault(rf"POST /api/datasets/{repo_id}/commit/main", times=9, status=500))
    cut = client(push, case.cache, repo_id, tries=3)
    assert "the Hub answered 500" in str(cut.error)
    assert MANIFEST not in files_of(server, repo_id)
    server.faults.clear()
    assert client(push, case.cache, repo_id).error is None
    assert MANIFEST in files_of(server, repo_id)


@pytest.mark.hub
def test_a_data_set_can_be_private(server: HubServer, client: Caller, repo_id: str, case: Case) -> None:
    client(push, case.cache, repo_id, private=True)
    assert server.store.get(f"datasets/{repo_id}").private


def test_a_damaged_or_unfinished_cache_is_not_pushed(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "classification", LOGITS)
    writer = HubWriter("org/name", repo_type="dataset")
    shard = next((case.cache / "shards").iterdir())
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="is cut short"):
        push_cache(case.cache, writer)
    shard.write_bytes(content)
    manifest = Manifest.load(case.cache)
    manifest.with_files(manifest.files, complete=False).save(case.cache)
    with pytest.raises(ValueError, match="unfinished"):
        push_cache(case.cache, writer)


def test_the_card_says_what_it_holds_without_paths_or_secrets(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "masked_lm", {"name": "top_k", "k": 5})
    manifest = Manifest.load(case.cache)
    secret = "hf_" + "a" * 30
    told = manifest.with_files(
        manifest.files,
        recipe={"output_dir": str(tmp_path), "hub_token": secret},
        data={"description": {"source": "toys"}},
    )
    public = public_manifest(told)
    text = str(targets_card(public, "org/toy-targets", license="mit"))
    everything = text + json.dumps(public.content())
    assert str(tmp_path) not in everything
    assert secret not in everything
    assert "top_k k=5 float16" in text
    assert "license: mit" in text
    assert 'cached: "org/toy-targets"' in text
    assert "toys" in text
    for revision in manifest.revisions:
        assert revision["commit"] in text
    assert f"{manifest.examples} training examples ({manifest.rows} rows)" in text
    public.save(tmp_path)
    assert Manifest.load(tmp_path) == public


def test_the_configuration_that_is_published_names_no_folder(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "classification", LOGITS)
    assert str(tmp_path) not in (case.cache / "teacher" / "config.json").read_text(encoding="utf-8")
