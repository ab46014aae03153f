from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import bert_config, distill_trainer, examples, save_teacher_run, tiny_model, word_tokenizer
from cache_cases import FLOAT_HIDDEN, LOGITS, Case, make_walk, settings, write_cache
from transformers import BertForSequenceClassification

from hf_distill.cache.targets import cache_targets
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.reading.signals import select_rows, with_position_ids
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.cached import CachedTeacher

HIDDEN = {"name": "hidden"}
TOP_K = {"name": "top_k", "k": 40, "dtype": "float32"}


def batch_of(data: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([item[name] for item in data]) for name in data[0]}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_cache(tmp_path_factory.mktemp("cached"), "masked_lm", FLOAT_HIDDEN, curriculum="one_shot")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_cache(tmp_path_factory.mktemp("classes"), "classification", LOGITS, curriculum="one_shot")


def cached(case: Case, **options: Any) -> CachedTeacher:
    return CachedTeacher(case.cache, show_progress=False, **options)


@pytest.mark.parametrize("codec", [LOGITS, FLOAT_HIDDEN, TOP_K], ids=lambda codec: codec["name"])
@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_rows_are_those_of_the_live_teacher_in_their_order(tmp_path: Path, head: str, codec: dict[str, Any]) -> None:
    case = write_cache(tmp_path, head, codec, curriculum="one_shot")
    live = TeacherSequence(str(case.teacher))
    teacher = cached(case)
    for source in (live, teacher):
        source.attach(head=head, accelerator=None)
        source.enter(2)
    batch = batch_of([case.data[place] for place in (7, 2, 11)])
    rows = select_rows(head, batch)
    inputs = {**batch}
    if head == "causal_lm":
        inputs = with_position_ids(inputs)
    theirs, ours = live.row_logits(inputs, rows), teacher.row_logits(inputs, rows)
    if codec["name"] == "top_k":
        theirs = theirs.log_softmax(-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not ours.requires_grad


def test_rows_are_given_in_front_of_the_head_where_they_are_kept_there(case: Case, classes: Case) -> None:
    batch = batch_of(case.data[:2])
    teacher = cached(case)
    teacher.enter(2)
    found = teacher.head_rows(batch, select_rows("masked_lm", batch))
    assert isinstance(found, HeadRows)
    assert found.hidden_RH.shape[1] == 16
    teacher = cached(classes)
    teacher.enter(2)
    batch = batch_of(classes.data[:2])
    assert isinstance(teacher.head_rows(batch, select_rows("classification", batch)), LogitRows)


def test_logits_of_whole_examples_are_given_and_those_of_positions_are_not(case: Case, classes: Case) -> None:
    live, teacher = TeacherSequence(str(classes.teacher)), cached(classes)
    live.attach(head="classification", accelerator=None)
    batch = batch_of(classes.data[:4])
    for source in (live, teacher):
        source.enter(2)
    torch.testing.assert_close(teacher.logits(batch), live.logits(batch))
    teacher = cached(case)
    teacher.enter(2)
    with pytest.raises(ValueError, match="only the rows that count are cached"):
        teacher.logits(batch_of(case.data[:2]))


def test_no_teacher_is_there_to_look_into(case: Case) -> None:
    teacher = cached(case)
    assert teacher.provides == {"teacher.logits"}
    with pytest.raises(ValueError, match=r"no model is loaded.*leave `teacher\.cached` out"):
        assert teacher.model
    with pytest.raises(ValueError, match="answers for no revision yet"):
        teacher.row_logits(batch_of(case.data[:2]), select_rows("masked_lm", batch_of(case.data[:2])))


def test_it_names_the_revisions_and_inputs_of_the_teacher_that_was_cached(case: Case) -> None:
    live, teacher = TeacherSequence(str(case.teacher)), cached(case)
    live.attach(head="masked_lm", accelerator=None)
    assert teacher.manifest() == live.manifest()
    assert [r.commit for r in teacher.revisions] == [r.commit for r in live.revisions]
    assert teacher.forward_arguments == live.forward_arguments - {"labels"}
    assert teacher.config.to_diff_dict() == live.config.to_diff_dict()
    assert teacher.tokenizer is None


def test_the_tokenizer_of_the_teacher_is_kept(tmp_path: Path) -> None:
    folder = save_teacher_run(tmp_path / "teacher")
    words = word_tokenizer(*(f"w{number}" for number in range(39)))
    words.save_pretrained(folder / "checkpoint-30")
    walk = make_walk(tmp_path / "w", "classification", TeacherSequence(str(folder)), examples("classification"))
    cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    kept = CachedTeacher(tmp_path / "cache").tokenizer
    assert kept is not None
    assert kept.get_vocab() == words.get_vocab()


def test_entering_a_revision_reads_its_head_and_drops_the_one_before(tmp_path: Path) -> None:
    teacher = cached(write_cache(tmp_path, "masked_lm", HIDDEN))
    assert teacher.enter(0) > 0.0
    first = teacher._heads
    assert teacher.enter(0) == 0.0
    assert teacher.enter(1) > 0.0
    assert set(first).isdisjoint(teacher._heads)
    assert len(teacher._heads) == 1


# ---- training with it ----


def train(folder: Path, case: Case, teacher: Any, **overrides: Any) -> Any:
    trainer = distill_trainer(folder, "masked_lm", teacher=teacher, train_dataset=case.data, **settings(**overrides))
    trainer.train()
    return trainer


def test_objectives_on_layers_are_refused_at_construction(tmp_path: Path, case: Case) -> None:
    objectives = [{"name": "hidden_mse", "projector": "linear", "layers": [[1, 2]]}]
    with pytest.raises(ValueError, match=r"need \['teacher\.hidden_states'\], but CachedTeacher provides only"):
        train(tmp_path, case, cached(case), curriculum={"name": "one_shot", "objectives": objectives})


def test_a_student_with_another_head_or_vocabulary_is_refused(tmp_path: Path, case: Case, classes: Case) -> None:
    with pytest.raises(ValueError, match=r"the student has a causal_lm head, and the targets in .* of a masked_lm"):
        distill_trainer(tmp_path, "causal_lm", teacher=cached(case))
    with pytest.raises(ValueError, match="the student has 5 labels and the teacher 3"):
        distill_trainer(tmp_path, model=_five_classes(), teacher=cached(classes))


def _five_classes() -> torch.nn.Module:
    return BertForSequenceClassification(bert_config(num_labels=5))


def test_other_examples_than_the_cached_ones_stop_training_with_the_likely_reasons(tmp_path: Path, case: Case) -> None:
    other = examples("masked_lm", count=8, seed=5)
    trainer = distill_trainer(
        tmp_path, "masked_lm", teacher=cached(case), train_dataset=other, **settings(curriculum="one_shot")
    )
    with pytest.raises(ValueError, match=r"4 of 4 examples .*'checkpoint-30'.*drawn anew in every epoch.*other data"):
        trainer.train()


def test_masks_that_are_drawn_anew_are_not_found(tmp_path: Path, case: Case) -> None:
    """The same text with other hidden positions is another example."""
    data = [{name: value.clone() for name, value in item.items()} for item in case.data]
    for item in data:
        item["labels"] = item["labels"].roll(1)
    with pytest.raises(ValueError, match="masking or augmentation that is drawn anew"):
        train(tmp_path, case._replace(data=data), cached(case), curriculum="one_shot")


# ---- whose targets they are ----


def test_a_teacher_that_moved_is_refused_with_both_commits(tmp_path: Path, case: Case) -> None:
    before = TeacherSequence(str(case.teacher)).revisions
    assert cached(case, revisions=before).revisions[0].name == "checkpoint-10"
    moved = save_teacher_run(tmp_path / "teacher", "masked_lm")
    tiny_model("masked_lm", seed=99).save_pretrained(moved / "checkpoint-20")
    now = TeacherSequence(str(moved)).revisions
    said = f"stale: .*'checkpoint-20' at {before[1].commit}, which now is {now[1].commit} in the teacher's source"
    with pytest.raises(ValueError, match=said):
        cached(case, revisions=now)
    with pytest.raises(ValueError, match=r"'checkpoint-30' .* now is not in the teacher's source"):
        cached(case, revisions=before[:2])


def test_a_longer_list_of_revisions_than_was_cached_is_fine(tmp_path: Path) -> None:
    folder = save_teacher_run(tmp_path / "teacher", "masked_lm")
    few = TeacherSequence({"revisions": str(folder), "first": "checkpoint-20"})
    data = examples("masked_lm")
    walk = make_walk(tmp_path / "w", "masked_lm", few, data, curriculum="one_shot")
    cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    teacher = CachedTeacher(tmp_path / "cache", revisions=TeacherSequence(str(folder)).revisions)
    assert [revision.name for revision in teacher.revisions] == ["checkpoint-20", "checkpoint-30"]


def test_a_damaged_cache_is_refused_before_a_student_is_built(tmp_path: Path) -> None:
    case = write_cache(tmp_path, "classification", LOGITS)
    shard = next((case.cache / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    content[-2] ^= 8
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"shards/{shard.name} is damaged")):
        CachedTeacher(case.cache)


def test_a_folder_or_a_data_set_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a folder with cached targets nor a data set"):
        CachedTeacher(str(tmp_path / "nothing"))
