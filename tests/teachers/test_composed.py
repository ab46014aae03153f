from __future__ import annotations

import pytest
import torch
from builders import bert_config, save_teacher_run, tiny_model, word_tokenizer
from source_cases import batch_of, ladder
from transformers import BertForSequenceClassification

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.teachers import EnsembleTeacher
from hf_distill.teachers.composed import ComposedTeacher, composed


def together(*members, head: str = "classification") -> EnsembleTeacher:
    source = EnsembleTeacher(list(members))
    source.attach(head=head, accelerator=None)
    source.enter(0)
    return source


def test_members_may_be_written_as_a_teacher_may(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    source = together(tiny_model("classification"), LiveTeacher(tiny_model("classification", seed=1)), str(folder))
    assert [type(member).__name__ for member in source.members] == ["LiveTeacher", "LiveTeacher", "TeacherSequence"]
    assert source.logits(batch_of()).shape == (8, 3)


def test_a_member_with_several_revisions_answers_with_its_final_one(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    source = together(folder, head="classification")
    final = LiveTeacher(tiny_model("classification", seed=20))
    torch.testing.assert_close(source.logits(batch_of()).exp(), final.logits(batch_of()).softmax(-1))
    (entry,) = source.manifest()
    assert [member["name"] for member in entry["members"]] == ["checkpoint-20"]


def test_the_pin_changes_with_members_and_settings():
    models = [tiny_model("classification", seed=seed) for seed in range(3)]
    pins = {
        EnsembleTeacher(members, **settings).revisions[0].commit
        for members, settings in [
            (models[:2], {}),
            (models[1:], {}),
            (models[:2], {"average": "logits"}),
            (models[:2], {"weights": [1, 2]}),
        ]
    }
    assert len(pins) == 4
    same = {EnsembleTeacher(models[:2], weights=weights).revisions[0].commit for weights in (None, [1, 1], [3, 3])}
    assert len(same) == 1


def test_a_revision_made_of_one_keeps_its_step():
    one, other = LiveTeacher(tiny_model("classification")), LiveTeacher(tiny_model("classification", seed=1))
    revision = one.revisions[0]
    assert composed("x", "text", {}, [revision]).step is revision.step is None
    assert composed("x", "text", {}, [revision, other.revisions[0]]).members == (revision, other.revisions[0])


@pytest.mark.parametrize("members", [[], [None]])
def test_nothing_is_no_teacher(members):
    with pytest.raises(ValueError, match=r"EnsembleTeacher is made of teachers"):
        EnsembleTeacher(members)


def test_a_member_that_looks_at_data_first_is_refused():
    with pytest.raises(ValueError, match=r"LadderTeacher looks at training data first, so it cannot be part of"):
        EnsembleTeacher([ladder(), tiny_model("classification")])


def test_revisions_still_to_be_chosen_are_refused(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    member = TeacherSequence({"revisions": str(folder), "near_transition": 2})
    with pytest.raises(ValueError, match=r"near_transition chooses revisions to learn from one by one"):
        together(member)


def test_members_with_other_labels_or_another_head_are_refused():
    with pytest.raises(ValueError, match=r"teacher 2 does not go with teacher 1, .* has 3 labels and the teacher 4"):
        together(tiny_model("classification"), BertForSequenceClassification(bert_config(num_labels=4)))
    with pytest.raises(ValueError, match=r"student has a classification head and the teacher, BertForMaskedLM"):
        together(tiny_model("classification"), tiny_model("masked_lm"))


def test_heads_padded_to_different_widths_are_cut_to_the_narrowest():
    words = word_tokenizer(*(f"w{number}" for number in range(38)))
    members = [
        LiveTeacher(tiny_model("masked_lm", seed=seed, vocab_size=size), tokenizer=words)
        for seed, size in enumerate((48, 40, 44))
    ]
    source = together(*members, head="masked_lm")
    assert source.config.vocab_size == 40
    assert source.tokenizer is words
    assert source.logits(batch_of(2, head="masked_lm")).shape[-1] == 40


def test_different_tokenizers_are_refused():
    tokenizers = [word_tokenizer("a", "b"), word_tokenizer("b", "a")]
    members = [LiveTeacher(tiny_model("masked_lm"), tokenizer=tokenizer) for tokenizer in tokenizers]
    with pytest.raises(ValueError, match=r"teacher 2 does not go with teacher 1.*different tokenizers"):
        together(*members, head="masked_lm")
    longer = [word_tokenizer("The"), word_tokenizer("The", "quick")]
    members = [LiveTeacher(tiny_model("masked_lm"), tokenizer=tokenizer) for tokenizer in longer]
    with pytest.raises(ValueError, match=r"need one tokenizer|split text differently"):
        together(*members, head="masked_lm")


def test_the_student_is_no_member_of_its_teacher():
    student = tiny_model("classification")
    source = EnsembleTeacher([tiny_model("classification", seed=1), EnsembleTeacher([student])])
    with pytest.raises(ValueError, match=r"student and teacher are one object"):
        source.attach_student(student)


def test_a_second_revision_is_refused_with_a_way_out():
    source = together(tiny_model("classification"))
    assert isinstance(source, ComposedTeacher)
    with pytest.raises(ValueError, match=r"has one revision, number 0; revision 1 was asked for.*own checkpoints"):
        source.enter(1)
