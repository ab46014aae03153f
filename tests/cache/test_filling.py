from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import examples, save_teacher_run
from cache_cases import FLOAT_HIDDEN, LOGITS, Counted, make_walk, write_cache

from hf_distill.cache.filling import Coverage, Filling, accepted, counted_rows
from hf_distill.cache.key import example_keys
from hf_distill.cache.reader import CacheReader
from hf_distill.cache.targets import cache_targets, settings_of
from hf_distill.cache.writer import CacheWriter
from hf_distill.reading.signals import Rows, select_rows
from hf_distill.teachers import TeacherSequence


def batch_of(data: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([item[name] for item in data]) for name in data[0]}


def filling(folder: Path, head: str, codec: dict[str, object]) -> Filling:
    """Make a filling of a new cache, for batches that a test hands it."""
    teacher = Counted(save_teacher_run(folder / "teacher", head))
    walk = make_walk(folder / "walk", head, teacher, examples(head))
    writer = CacheWriter(
        folder / "cache", settings=settings_of(walk, codec), revisions=teacher.manifest(), shard_bytes=1
    )
    return Filling(writer, teacher, head=head)


@pytest.mark.parametrize("codec", [LOGITS, FLOAT_HIDDEN], ids=lambda codec: codec["name"])
def test_only_what_is_missing_goes_through_the_teacher(tmp_path: Path, codec: dict[str, object]) -> None:
    data = examples("masked_lm", count=6)
    work = filling(tmp_path, "masked_lm", codec)
    for part, revision in ((data[:4], 0), (data[:4], 0), (data, 0), (data[2:], 1)):
        batch = batch_of(part)
        work.visit(batch, select_rows("masked_lm", batch), revision=revision)
    assert work.teacher.seen == {"checkpoint-10": 6, "checkpoint-20": 4}
    assert work.visited == {0: 14, 1: 4}
    assert work.writer.forwarded == 10


@pytest.mark.parametrize("codec", [LOGITS, FLOAT_HIDDEN], ids=lambda codec: codec["name"])
def test_each_row_is_kept_under_the_example_that_it_belongs_to(tmp_path: Path, codec: dict[str, object]) -> None:
    """A part of a batch goes through the teacher; its rows must not be those of its neighbours."""
    data = examples("masked_lm", count=6)
    work = filling(tmp_path, "masked_lm", codec)
    for chosen in ([1, 4], [0, 1, 2, 3, 4, 5]):
        batch = batch_of([data[place] for place in chosen])
        work.visit(batch, select_rows("masked_lm", batch), revision=2)
    work.writer.finish()
    reader = CacheReader(tmp_path / "cache", show_progress=False)
    batch = batch_of(data)
    rows = select_rows("masked_lm", batch)
    live = rows.of(work.teacher.model(**accepted(batch, work.teacher.forward_arguments)).logits)
    commit = work.teacher.revisions[2].commit
    keys = example_keys(accepted(batch, work.teacher.forward_arguments), rows.mask)
    columns = reader.read(commit, keys, counted_rows(rows, 6).numpy())
    decoded = reader.codec.decode(columns, vocabulary=40, head=reader.head(commit)).logits()
    torch.testing.assert_close(decoded, live, rtol=1e-5, atol=1e-5)


def test_an_example_without_rows_costs_no_forward(tmp_path: Path) -> None:
    data = examples("masked_lm", count=3)
    data[1]["labels"].fill_(-100)
    work = filling(tmp_path, "masked_lm", LOGITS)
    batch = batch_of(data)
    work.visit(batch, select_rows("masked_lm", batch), revision=0)
    assert work.writer.forwarded == 2


def test_a_head_is_kept_for_each_revision_that_speaks(tmp_path: Path) -> None:
    batch = batch_of(examples("masked_lm", count=2))
    work = filling(tmp_path, "masked_lm", FLOAT_HIDDEN)
    for revision in (0, 2):
        work.visit(batch, select_rows("masked_lm", batch), revision=revision)
    commits = [revision.commit for revision in work.teacher.revisions]
    assert [work.writer.has_head(commit) for commit in commits] == [True, False, True]


def test_hidden_states_of_a_head_without_a_vocabulary_are_refused(tmp_path: Path) -> None:
    batch = batch_of(examples("classification", count=2))
    work = filling(tmp_path, "classification", FLOAT_HIDDEN)
    with pytest.raises(ValueError, match=r"no hidden states in front of a classification head.*codec `logits`"):
        work.visit(batch, select_rows("classification", batch), revision=0)


def test_labels_are_never_part_of_what_the_teacher_reads() -> None:
    inputs = {"input_ids": 1, "labels": 2, "idx": 3}
    assert accepted(inputs, {"input_ids", "labels", "attention_mask"}) == {"input_ids": 1}


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        (None, [1, 1, 1]),
        (torch.tensor([True, False, True]), [1, 0, 1]),
        (torch.tensor([[True, True], [False, False], [True, False]]), [2, 0, 1]),
    ],
)
def test_rows_are_counted_for_each_example(mask: torch.Tensor | None, counts: list[int]) -> None:
    assert counted_rows(Rows(mask, None, False), 3).tolist() == counts


@pytest.mark.slow
def test_coverage_is_looked_for_without_a_teacher(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "classification", LOGITS)
    reader = CacheReader(case.cache, show_progress=False)
    manifest = reader.manifest
    commits = [revision["commit"] for revision in manifest.revisions]
    coverage = Coverage(reader, commits=commits, inputs=manifest.settings.inputs)

    def walk(**overrides: object) -> None:
        teacher = TeacherSequence(str(case.teacher))
        make_walk(tmp_path / "again", "classification", teacher, case.data, **overrides).walk(coverage)

    walk()
    with pytest.raises(ValueError, match=r"of 4 examples .* no target of the teacher revision 'checkpoint-\d0'"):
        walk(curriculum={"name": "n_shot", "steps": 4})
    with pytest.raises(ValueError, match="have no target"):
        walk(seed=1, data_seed=1)
    again = make_walk(
        tmp_path / "a", "classification", TeacherSequence(str(case.teacher)), case.data, seed=1, data_seed=1
    )
    assert cache_targets(case.cache, [again], codec=LOGITS).forwarded > 0
    coverage.reader = CacheReader(case.cache, show_progress=False)
    walk(seed=1, data_seed=1)
    walk()
