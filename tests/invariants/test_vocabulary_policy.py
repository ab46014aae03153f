"""Invariant 8: padded heads are cut to the shared ids after comparing token maps; other tokenizers are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from builders import VOCABULARY, distill_trainer, examples, tiny_model, word_tokenizer
from torch.utils.data import default_collate

from hf_distill import LiveTeacher, TeacherSequence

WORDS = [f"w{index}" for index in range(1, VOCABULARY)]
TOKENIZER = word_tokenizer(*WORDS)
HEADS = ("masked_lm", "causal_lm")


def batch_of(head: str) -> dict[str, torch.Tensor]:
    return default_collate(examples(head, count=4))


def losses_of(
    folder, head: str, *, student_width: int, teacher_width: int, shared: int, ours=TOKENIZER, theirs=TOKENIZER
):
    """The trainer's loss in one step, the KL over the shared ids by hand, and the trained student."""
    student = tiny_model(head, seed=1, vocab_size=student_width)
    teacher = tiny_model(head, seed=7, vocab_size=teacher_width)
    trainer = distill_trainer(
        folder,
        head,
        model=student,
        teacher=LiveTeacher(teacher, tokenizer=theirs),
        processing_class=ours,
        train_dataset=examples(head, count=4),
        max_steps=1,
        data_collator=default_collate,
        train_sampling_strategy="sequential",
    )
    batch = batch_of(head)
    with torch.no_grad():
        said = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    trainer.train()
    labels, counted = batch["labels"], batch["labels"] != -100
    with torch.no_grad():
        target = teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    if head == "causal_lm":
        said, target, counted = said[:, :-1], target[:, :-1], labels[:, 1:] != -100
    log_q, log_p = (side[counted][:, :shared].log_softmax(-1) for side in (said, target))
    by_hand = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()
    return trainer.state.log_history[0]["loss"], by_hand.item(), student


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("student_width", "teacher_width"), [(40, 40), (48, 40), (40, 64), (56, 48)])
def test_padded_heads_are_compared_over_the_shared_ids(tmp_path, head, student_width, teacher_width):
    shared = min(student_width, teacher_width)
    loss, by_hand, _ = losses_of(
        tmp_path, head, student_width=student_width, teacher_width=teacher_width, shared=shared
    )
    assert loss == pytest.approx(by_hand, rel=1e-5)


def test_ids_beyond_the_shared_ones_get_no_gradient(tmp_path):
    _, _, student = losses_of(tmp_path, "masked_lm", student_width=48, teacher_width=40, shared=40)
    fresh = tiny_model("masked_lm", seed=1, vocab_size=48)
    trained, before = student.cls.predictions.bias.detach(), fresh.cls.predictions.bias.detach()
    assert torch.equal(trained[40:], before[40:])
    assert not torch.equal(trained[:40], before[:40])


@pytest.mark.parametrize("extended", ["student", "teacher"])
def test_added_tokens_are_not_compared_with_what_the_other_pads_with(tmp_path, extended):
    """Both heads are 48 wide, but ids 40 and 41 are tokens for one of the two only."""
    longer = word_tokenizer(*WORDS, "<tool>", "</tool>")
    ours, theirs = (longer, TOKENIZER) if extended == "student" else (TOKENIZER, longer)
    loss, by_hand, _ = losses_of(
        tmp_path, "masked_lm", student_width=48, teacher_width=48, shared=40, ours=ours, theirs=theirs
    )
    assert loss == pytest.approx(by_hand, rel=1e-5)


def test_labels_beyond_the_shared_ids_are_learnt_from_the_whole_head(tmp_path):
    rows = examples("masked_lm", count=4)
    for row in rows:
        row["labels"] = torch.where(row["labels"] == -100, -100, 45)
    trainer = distill_trainer(
        tmp_path,
        "masked_lm",
        model=tiny_model("masked_lm", seed=1, vocab_size=48),
        teacher=LiveTeacher(tiny_model("masked_lm", seed=7), tokenizer=TOKENIZER),
        processing_class=TOKENIZER,
        data_collator=default_collate,
        train_dataset=rows,
        curriculum={"name": "one_shot", "label_mix": 0.5},
        max_steps=1,
    )
    trainer.train()
    assert 0.0 < trainer.state.log_history[0]["objective/labels"] < 10.0


def test_other_tokenizers_are_refused_before_training(tmp_path):
    shuffled = word_tokenizer(*reversed(WORDS))
    with pytest.raises(ValueError, match=r"different tokenizers.*Use the teacher's for the student"):
        distill_trainer(
            tmp_path,
            "masked_lm",
            teacher=LiveTeacher(tiny_model("masked_lm"), tokenizer=shuffled),
            processing_class=TOKENIZER,
        )


def test_the_tokenizer_beside_the_teachers_weights_is_compared(tmp_path):
    tiny_model("masked_lm").save_pretrained(tmp_path / "teacher")
    word_tokenizer(*reversed(WORDS)).save_pretrained(tmp_path / "teacher")
    with pytest.raises(ValueError, match="different tokenizers"):
        distill_trainer(tmp_path / "run", "masked_lm", teacher=str(tmp_path / "teacher"), processing_class=TOKENIZER)


def test_different_widths_with_nothing_to_compare_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 40 ids and the teacher's 48.*processing_class.*tokenizer="):
        distill_trainer(tmp_path, "masked_lm", teacher=tiny_model("masked_lm", vocab_size=48))


def test_a_given_tokenizer_stands_in_for_a_missing_one(tmp_path):
    tiny_model("masked_lm", vocab_size=48).save_pretrained(tmp_path / "teacher")
    teacher = TeacherSequence(tmp_path / "teacher", tokenizer=TOKENIZER)
    trainer = distill_trainer(tmp_path / "run", "masked_lm", teacher=teacher, processing_class=TOKENIZER, max_steps=1)
    trainer.data_collator = default_collate
    trainer.train()
    assert trainer.state.global_step == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"num_labels": 4}, "the student has 3 labels and the teacher 4"),
        (
            {"id2label": {0: "b", 1: "a", 2: "d"}, "label2id": {"b": 0, "a": 1, "d": 2}},
            r"\['a', 'b', 'c'\] against \['b', 'a', 'd'\] \('c' only on one side\)",
        ),
    ],
)
def test_classes_of_another_number_or_name_are_refused(tmp_path, labels, message):
    names = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    student, teacher = tiny_model("classification", seed=1), tiny_model("classification", seed=7)
    student.config.update(names)
    teacher.config.update(labels)
    with pytest.raises(ValueError, match=message):
        distill_trainer(tmp_path, model=student, teacher=teacher)
