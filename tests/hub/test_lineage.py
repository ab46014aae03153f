"""Where a fine-tuned model comes from is told by the record, and only what is on the Hub is a base model."""

from __future__ import annotations

import pytest
from finetuned_records import STUDENT_PIN, TEACHER_COMMIT, finetuned_record, undistilled_record

from hf_distill.hub.lineage import DISTILLED, baselines_of, fine_tuned_bases, lineage_of, where_pushed
from hf_distill.hub.pushed import Pushed

PUSHED = Pushed("acme/student", "f" * 40)


def line_of(record, curriculum="two_shot", **options):
    return lineage_of(record, "cola", curriculum=curriculum, seed=1, **options)


def test_a_distilled_student_brings_its_teachers_and_its_pin():
    record = finetuned_record()
    line = line_of(record)
    assert line.start == DISTILLED
    assert [revision.name for revision in line.taught] == ["step-3200", "step-5000"]
    assert (line.student.curriculum, line.student.seed) == ("two_shot", 1)
    assert line.began_with.commit == STUDENT_PIN
    assert line.spec["task"]["subset"] == "cola"
    assert line.baselines == ("from_scratch", "teacher")


def test_baselines_have_no_student_behind_them():
    record = finetuned_record()
    for label in ("from_scratch", "teacher"):
        line = line_of(record, label, pushed=PUSHED)
        assert (line.start, line.student, line.taught, line.pushed) == (label, None, [], None)
    assert line_of(record, "teacher").began_with.commit == TEACHER_COMMIT
    assert line_of(record, "teacher").task.student["origin"] == {"pretrained": "acme/parity-teacher@step-*"}


def test_a_curriculum_that_is_called_teacher_is_a_student_all_the_same():
    record = finetuned_record(labels=("two_shot", "teacher"))
    for run in record.runs:
        run.curriculum = {"one_shot": "teacher"}.get(run.curriculum, run.curriculum)
    assert line_of(record, "teacher").start == DISTILLED
    assert baselines_of(record, record.finetuned("cola")) == ()


def test_what_was_measured_of_the_student_is_not_taken_for_the_fine_tuned_model():
    record = finetuned_record()
    record.student |= {"latency": {"median_seconds": 1.0}, "parameters": 1698}
    assert not {"latency", "parameters"} & set(line_of(record).task.student)


def test_base_models_are_the_student_where_it_is_known_on_the_hub_and_else_those_who_taught_it():
    record = finetuned_record()
    assert fine_tuned_bases(record, line_of(record, pushed=PUSHED)) == ["acme/student"]
    assert fine_tuned_bases(record, line_of(record)) == ["acme/parity-teacher"]
    assert fine_tuned_bases(record, line_of(record, "teacher")) == ["acme/parity-teacher"]
    assert fine_tuned_bases(record, line_of(record, "from_scratch")) == []
    found = undistilled_record()
    assert fine_tuned_bases(found, line_of(found, "student")) == ["acme/student"]


def test_a_folder_of_this_machine_is_no_base_model_whatever_it_is_called():
    record = undistilled_record()
    for run in record.downstream[0].runs:
        if run.began_with is not None:
            run.began_with.revision, run.began_with.commit = None, "sha256:" + "0" * 64
    assert fine_tuned_bases(record, line_of(record, "student")) == []


def test_records_without_pins_still_know_teacher_and_origin():
    record, found = finetuned_record(), undistilled_record()
    for run in [*record.downstream[0].runs, *found.downstream[0].runs]:
        run.began_with = None
    assert fine_tuned_bases(record, line_of(record)) == ["acme/parity-teacher"]
    assert fine_tuned_bases(record, line_of(record, "teacher")) == ["acme/parity-teacher"]
    assert fine_tuned_bases(found, line_of(found, "student")) == ["acme/student"]


def test_nothing_is_known_to_be_pushed_without_a_pin_or_a_note(tmp_path):
    record = finetuned_record()
    assert where_pushed(tmp_path, line_of(record).run) is None
    assert where_pushed(tmp_path, line_of(record, "from_scratch").run) is None


def test_what_is_not_there_is_refused_with_what_is():
    record = finetuned_record()
    with pytest.raises(ValueError, match="no downstream task 'mrpc'; it has: cola"):
        lineage_of(record, "mrpc", curriculum="two_shot", seed=1)
    with pytest.raises(ValueError, match="no model 'labels' with seed 1; it has: two_shot with seed 0"):
        line_of(record, "labels")
