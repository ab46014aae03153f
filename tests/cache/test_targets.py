from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import examples, save_teacher_run, tiny_model, word_tokenizer
from cache_cases import LOGITS, STEPS, Counted, make_walk, write_cache
from torch.utils.data import Dataset

from hf_distill.cache.format import Manifest
from hf_distill.cache.reader import CacheReader
from hf_distill.cache.targets import About, cache_targets, settings_of, taught_by, tokenizer_hash
from hf_distill.teachers import EmaTeacher, LiveTeacher


def test_each_example_is_kept_once_for_the_revision_of_its_own_stage(tmp_path: Path) -> None:
    """40 examples, 4 a step, stages of 3, 3 and 4 steps: no example comes twice in a stage."""
    teacher = Counted(save_teacher_run(tmp_path / "teacher"))
    data = examples("classification", count=40)
    walk = make_walk(tmp_path / "walk", "classification", teacher, data)
    caching = cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    stages = {"checkpoint-10": 12, "checkpoint-20": 12, "checkpoint-30": 16}
    assert teacher.seen == stages
    commits = {revision.commit: revision.name for revision in teacher.revisions}
    assert {commits[shard.commit]: shard.examples for shard in caching.manifest.shards} == stages
    assert (caching.forwarded, caching.visited, caching.manifest.rows) == (40, 4 * STEPS, 40)


def test_all_runs_of_a_recipe_share_one_cache(tmp_path: Path) -> None:
    teacher = Counted(save_teacher_run(tmp_path / "teacher"))
    data = examples("classification", count=8)
    two_shot = {"name": "two_shot", "revision": 20, "steps": 4}
    walks = (
        make_walk(
            tmp_path / f"walk-{seed}",
            "classification",
            teacher,
            data,
            seed=seed,
            data_seed=seed,
            curriculum=curriculum,
        )
        for seed in (0, 1)
        for curriculum in (two_shot, "one_shot")
    )
    caching = cache_targets(tmp_path / "cache", walks, codec=LOGITS)
    assert teacher.seen == {"checkpoint-20": 8, "checkpoint-30": 8}
    assert caching.visited == 4 * 4 * STEPS
    assert caching.forwarded == caching.manifest.examples == 16


def test_a_second_call_forwards_and_writes_nothing(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "masked_lm", {"name": "hidden"})
    before = {path: path.read_bytes() for path in case.cache.rglob("*") if path.is_file()}
    teacher = Counted(case.teacher)
    caching = cache_targets(
        case.cache, [make_walk(tmp_path / "w", "masked_lm", teacher, case.data)], codec={"name": "hidden"}
    )
    assert (caching.forwarded, teacher.seen, teacher.current) == (0, {}, None)
    assert {path: path.read_bytes() for path in case.cache.rglob("*") if path.is_file()} == before


def test_the_cache_says_whose_targets_it_holds(tmp_path: Path) -> None:
    teacher = Counted(save_teacher_run(tmp_path / "teacher"))
    walk = make_walk(
        tmp_path / "walk",
        "classification",
        teacher,
        examples("classification"),
        fingerprint="abc",
        curriculum="one_shot",
    )
    about = About(data={"fingerprint": "f"}, teacher={"parameters": 7}, recipe={"name": "r"})
    cache_targets(tmp_path / "cache", [walk], codec=LOGITS, max_length=12, about=about)
    manifest = Manifest.load(tmp_path / "cache")
    assert manifest.complete
    assert manifest.walks == {"abc": 40}
    assert manifest.revisions == teacher.manifest()
    assert (manifest.data, manifest.teacher, manifest.recipe) == (
        {"fingerprint": "f"},
        {"parameters": 7},
        {"name": "r"},
    )
    settings = manifest.settings
    assert (settings.head, settings.vocabulary, settings.max_length) == ("classification", 3, 12)
    assert "input_ids" in settings.inputs
    assert "labels" not in settings.inputs
    assert (tmp_path / "cache" / "teacher" / "config.json").is_file()


def test_a_training_that_a_finished_cache_names_is_not_gone_through_again(tmp_path: Path) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=8)
    fetched = []
    for _ in range(2):
        walk = make_walk(tmp_path / "w", "classification", Counted(teacher), data, fingerprint="abc")
        walk.train_dataset = counted = CountedData(data)
        assert cache_targets(tmp_path / "cache", [walk], codec=LOGITS).visited == 40
        fetched.append(counted.fetched)
    # Loaders read a batch ahead; what remains is the look whether examples are drawn anew.
    assert fetched[0] - fetched[1] >= 40
    assert fetched[1] <= 2 * (8 + 4)
    (shard, *_) = (tmp_path / "cache" / "shards").iterdir()
    shard.unlink()
    walk = make_walk(tmp_path / "w", "classification", Counted(teacher), data, fingerprint="abc")
    assert cache_targets(tmp_path / "cache", [walk], codec=LOGITS).forwarded > 0


class CountedData(Dataset[Any]):
    """Examples that are counted as they are fetched."""

    def __init__(self, data: list[Any]) -> None:
        self.data, self.fetched = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        self.fetched += 1
        return self.data[row]


@pytest.mark.parametrize(("head", "width"), [("classification", 3), ("regression", 1), ("masked_lm", 40)])
def test_the_width_is_that_of_the_logits(tmp_path: Path, head: str, width: int) -> None:
    walk = make_walk(tmp_path, head, LiveTeacher(tiny_model(head)), examples(head), curriculum="one_shot")
    assert settings_of(walk, LOGITS).vocabulary == width


def test_targets_of_two_kinds_do_not_go_into_one_cache(tmp_path: Path) -> None:
    walks = [
        make_walk(tmp_path / head, head, LiveTeacher(tiny_model(head)), examples(head), curriculum="one_shot")
        for head in ("classification", "regression")
    ]
    with pytest.raises(ValueError, match="targets of two kinds"):
        cache_targets(tmp_path / "cache", walks, codec=LOGITS)


def test_trainings_without_a_teacher_have_nothing_to_cache(tmp_path: Path) -> None:
    walk = make_walk(tmp_path, "classification", None, examples("classification"), curriculum="labels")
    with pytest.raises(ValueError, match="learns from labels only"):
        taught_by(walk)
    with pytest.raises(ValueError, match="nothing to cache"):
        cache_targets(tmp_path / "cache", [], codec=LOGITS)


def test_a_teacher_that_follows_the_student_is_refused(tmp_path: Path) -> None:
    walk = make_walk(tmp_path, "classification", EmaTeacher(), examples("classification"), curriculum="one_shot")
    with pytest.raises(ValueError, match=r"what EmaTeacher says depends on the student.*let it run live"):
        cache_targets(tmp_path / "cache", [walk], codec=LOGITS)


def test_tokenizers_are_told_apart_by_ids_and_by_splitting() -> None:
    first, same, other = word_tokenizer("a", "b"), word_tokenizer("a", "b"), word_tokenizer("b", "a")
    assert tokenizer_hash(first) == tokenizer_hash(same) != tokenizer_hash(other)


def test_the_teacher_computes_in_the_precision_of_the_training(tmp_path: Path) -> None:
    data = examples("classification", count=8)
    stored = []
    for number, training in enumerate(({}, {"bf16": True})):
        walk = make_walk(
            tmp_path / f"w{number}",
            "classification",
            LiveTeacher(tiny_model("classification")),
            data,
            curriculum="one_shot",
            max_steps=2,
            train_sampling_strategy="sequential",
            **training,
        )
        caching = cache_targets(tmp_path / f"c{number}", [walk], codec=LOGITS)
        assert caching.manifest.settings.precision == ("bf16" if training else "no")
        reader = CacheReader(tmp_path / f"c{number}", show_progress=False)
        stored.append(reader._shard(0).tensor("logits"))
    assert not stored[0].equal(stored[1])
    torch.testing.assert_close(stored[0], stored[1], rtol=0.05, atol=0.05)
