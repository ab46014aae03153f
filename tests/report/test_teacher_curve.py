"""The teacher's scores: ordered by step, the chosen revision and those that taught marked."""

from __future__ import annotations

from PIL import Image
from sample_records import labels_only_record, sample_record, teacher_scores

from hf_distill.report.teacher_curve import plot_teacher_curve, teacher_curve_info


def test_scores_are_put_in_the_order_of_training():
    record = sample_record()
    record.teacher["scores"] = list(reversed(teacher_scores()))
    info = teacher_curve_info(record)
    assert list(info.steps) == list(range(200, 5001, 200))
    assert list(info.scores) == ["accuracy", "loss"]
    assert info.scores["loss"][0] > info.scores["loss"][-1]
    assert info.names[info.chosen] == "step-3200"
    assert [info.names[index] for index in info.taught] == ["step-3200", "step-5000"]


def test_revisions_without_steps_are_numbered_in_the_order_given():
    record = sample_record()
    record.teacher["scores"] = [{"name": name, "step": None, "accuracy": 0.5} for name in ("b", "a")]
    info = teacher_curve_info(record)
    assert (info.names, info.steps, info.numbered) == (("b", "a"), (1, 2), True)
    assert info.chosen is None


def test_unscored_teacher_has_no_curve():
    assert teacher_curve_info(labels_only_record()) is None


def test_metric_that_is_the_loss_is_drawn_once_and_gaps_are_kept():
    record = sample_record()
    record.task["metric"] = "loss"
    record.teacher["scores"][3]["loss"] = None
    info = teacher_curve_info(record)
    assert list(info.scores) == ["loss"]
    assert info.scores["loss"][3] is None


def test_picture_has_the_size_promised(tmp_path):
    path = plot_teacher_curve(teacher_curve_info(sample_record()), tmp_path / "teacher.png")
    with Image.open(path) as image:
        assert image.size == (1500, 570)
    assert path.stat().st_size > 5000
