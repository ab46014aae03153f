from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import HEADS, answer_of, as_read, examples, save_teacher_run, tiny_model
from tiers import mostly_slow
from tiny_recipes import untaught

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.analysis.revision_scores import choose_revision, score_revisions, transition_of
from hf_distill.pipeline.cells import task_of

STEPS = (10, 20, 30)


def batches_of(head: str, sizes: tuple[int, ...] = (5, 3)) -> list[dict[str, torch.Tensor]]:
    items = iter(examples(head, count=sum(sizes), seed=4))
    chunks = [[next(items) for _ in range(size)] for size in sizes]
    return [{key: torch.stack([item[key] for item in chunk]) for key in chunk[0]} for chunk in chunks]


def attached(spec: Any, head: str) -> TeacherSequence:
    teacher = TeacherSequence(spec)
    teacher.attach(head=head, accelerator=None)
    return teacher


def by_hand(head: str, step: int, batches: list[dict[str, torch.Tensor]]) -> tuple[float, float | None]:
    """Loss and accuracy over all labelled items, one example after the other."""
    model, losses, right = tiny_model(head, seed=step).eval(), [], []
    for batch in batches:
        for row, mask in enumerate(batch["attention_mask"]):
            alone = as_read(head, {key: values[row : row + 1] for key, values in batch.items()})
            logits = answer_of(model, alone)[0]
            if head == "question_answering":
                ends = torch.stack([alone["start_positions"], alone["end_positions"]], 1)
                alone["labels"] = ends.where(ends < mask.sum(), -100)
            labels = alone["labels"][0]
            if head == "regression":
                losses.append((logits - labels).square())
                continue
            logits, labels = (logits[:-1], labels[1:]) if head == "causal_lm" else (logits, labels)
            logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
            kept = labels != -100
            losses.append(F.cross_entropy(logits[kept], labels[kept], reduction="none"))
            right.append((logits.argmax(-1) == labels)[kept].double())
    return torch.cat(losses).double().mean().item(), torch.cat(right).mean().item() if right else None


@pytest.mark.parametrize("head", mostly_slow(HEADS, quick=lambda head: head == "causal_lm"))
def test_scores_are_means_over_items_and_not_over_batches(tmp_path, head):
    teacher, batches = attached(save_teacher_run(tmp_path, head, steps=STEPS), head), batches_of(head)
    scores = score_revisions(teacher, batches, head=head)
    assert [(score["name"], score["step"]) for score in scores] == [(f"checkpoint-{step}", step) for step in STEPS]
    for score, step in zip(scores, STEPS, strict=True):
        loss, accuracy = by_hand(head, step, batches)
        assert score["loss"] == pytest.approx(loss, rel=1e-5)
        assert score.get("accuracy") == pytest.approx(accuracy, abs=1e-9)
    whole = score_revisions(teacher, batches_of(head, (8,)), head=head)
    assert [score["loss"] for score in whole] == pytest.approx([score["loss"] for score in scores], rel=1e-6)


def test_a_live_teacher_has_one_score():
    teacher = LiveTeacher(tiny_model("classification", seed=10))
    (score,) = score_revisions(teacher, batches_of("classification"), head="classification")
    assert score["loss"] == pytest.approx(by_hand("classification", 10, batches_of("classification"))[0], rel=1e-5)
    assert (score["name"], score["step"]) == ("final", None)


def test_held_out_data_without_a_label_is_refused(tmp_path):
    teacher = attached(save_teacher_run(tmp_path, "masked_lm", steps=STEPS), "masked_lm")
    batches = batches_of("masked_lm")
    for batch in batches:
        batch["labels"].fill_(-100)
    with pytest.raises(ValueError, match="no labelled item to score revisions on; check its labels"):
        score_revisions(teacher, batches, head="masked_lm")
    with pytest.raises(ValueError, match="no labelled item"):
        score_revisions(teacher, [], head="masked_lm")


def scores(*losses: float, steps: list[int | None] | None = None, accuracy: bool = True) -> list[dict[str, Any]]:
    made = [
        {"name": f"r{index}", "step": step, "loss": loss, "accuracy": 1 - loss / 2}
        for index, (loss, step) in enumerate(zip(losses, steps or range(10, 10 * len(losses) + 1, 10), strict=True))
    ]
    return made if accuracy else [{k: v for k, v in score.items() if k != "accuracy"} for score in made]


def test_the_middle_of_the_drop_is_found_and_the_metric_carried_along():
    info = transition_of(scores(0.7, 0.69, 0.4, 0.05, 0.01))
    assert info.chosen == 2
    assert info.steps == (10, 20, 30, 40, 50)
    assert info.metric == pytest.approx((0.65, 0.655, 0.8, 0.975, 0.995))
    assert transition_of(scores(0.7, 0.69, 0.4, 0.05, 0.01, accuracy=False)).metric is None


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([10, 20, 30, 40, None], (10, 20, 30, 40, 41)),
        ([10, 20, 30, 40, 40], (10, 20, 30, 40, 41)),
        ([None, None, None, None, None], (1, 2, 3, 4, 5)),
        ([10, None, 30, 40, 50], (1, 2, 3, 4, 5)),
    ],
    ids=["final without a step", "final with its last step", "no steps", "one without"],
)
def test_revisions_without_steps_keep_their_order(steps, expected):
    info = transition_of(scores(0.7, 0.69, 0.4, 0.05, 0.01, steps=steps))
    assert (info.steps, info.chosen) == (expected, 2)


def test_one_revision_or_no_drop_is_no_transition():
    with pytest.raises(ValueError, match="1 revision given, but a drop needs at least 2"):
        transition_of(scores(0.7))
    with pytest.raises(ValueError, match="no clear drop"):
        transition_of(scores(0.7, 0.7, 0.71))


def parity_teacher(folder: Path, factors: dict[int, float]) -> TeacherSequence:
    """Revisions whose logits are those of the solution times a factor: their loss falls as the factor grows."""
    task = task_of(untaught(folder))
    data = task.prepare(seed=0, cache_dir=folder)
    torch.manual_seed(0)
    model = task.build_model({"architecture": "parity_mlp", "config": {"width": 4}}, data)
    hidden, hidden_bias, output, output_bias = model.parameters()
    with torch.no_grad():
        # |a + b| is 2 where two signs are equal and 0 where not: two units make it, the others are silent.
        for parameter in (hidden, hidden_bias, output):
            parameter.zero_()
        hidden[0, :2], hidden[1, :2] = 1.0, -1.0
        for step, factor in factors.items():
            output[0, :2] = factor
            output_bias.copy_(torch.tensor([-factor, 0.0]))
            model.save_pretrained(folder / f"checkpoint-{step}")
    return attached(folder, "classification")


def held_out(folder: Path) -> list[dict[str, torch.Tensor]]:
    data = task_of(untaught(folder)).prepare(seed=0, cache_dir=folder)
    return [data.collator(data.validation.__getitems__(list(range(100))))]


def test_the_name_in_the_drop_is_what_a_curriculum_gets(tmp_path):
    teacher = parity_teacher(tmp_path, {10: 0.0, 20: 0.01, 30: 1.0, 40: 6.0, 50: 7.0})
    assert choose_revision(teacher, held_out(tmp_path), head="classification") == "checkpoint-30"


def test_a_drop_between_the_last_two_asks_for_more_checkpoints(tmp_path):
    teacher = parity_teacher(tmp_path, {10: 0.0, 20: 0.01, 30: 7.0})
    with pytest.raises(ValueError, match=r"final one, 'checkpoint-30'; keep checkpoints more often"):
        choose_revision(teacher, held_out(tmp_path), head="classification")
