"""The sections of a fine-tuned model's card: figures equal the record's, and a difference is told only where it is."""

from __future__ import annotations

import pytest
from finetuned_records import STUDENT_PIN, TEACHER_COMMIT, finetuned_record, undistilled_record
from sample_records import COMMITS

from hf_distill.hub.finetuned_text import finetuned_card_text, spread_sentence
from hf_distill.hub.lineage import lineage_of
from hf_distill.hub.pushed import Pushed


def line_of(record, curriculum="two_shot", **options):
    return lineage_of(record, "cola", curriculum=curriculum, seed=1, **options)


def text_of(record, curriculum="two_shot", **options):
    return finetuned_card_text(record, line_of(record, curriculum, **options), repo_id=None)


def test_teacher_student_and_fine_tuning_stand_in_one_table_with_their_pins():
    text = text_of(finetuned_record())
    teacher, student, model = text["lineage_table"].splitlines()[2:]
    assert teacher.startswith("| teacher | acme/parity-teacher@step-\\* |")
    assert student.startswith("| student | bert (hidden size 16) | its teacher, by two_shot |")
    assert student.endswith(f"| 1,698 | {STUDENT_PIN} |")
    assert model.startswith("| this model | the student, fine-tuned | labels of cola |")
    assert all(commit in text["revisions_table"] for commit in COMMITS.values())
    assert "| 300 | 1,200 |" in text["stages_table"]
    assert (
        "98 % of this model's parameters were the student's and the others were drawn anew"
        in (text["lineage_sentence"])
    )
    assert "the student was at accuracy 0.99" in text["lineage_sentence"]
    assert "its teacher at 0.9985" in text["lineage_sentence"]


def test_a_pushed_student_is_named_with_its_commit():
    text = text_of(finetuned_record(), pushed=Pushed("acme/student", "f" * 40))
    assert f"The student is `acme/student` on the Hub, at commit {'f' * 40}." in text["lineage_sentence"]


def test_the_summary_says_what_it_was_made_from():
    record = finetuned_record()
    summaries = {label: text_of(record, label)["summary"] for label in ("two_shot", "from_scratch", "teacher")}
    assert (
        "for glue (`cola`), fine-tuned with labels by hf_distill from a student, which learned from 2 revisions of"
        in (summaries["two_shot"])
    )
    assert "from new weights: the baseline" in summaries["from_scratch"]
    assert "from the finished teacher" in summaries["teacher"]
    assert "from a student that was there already" in text_of(undistilled_record(), "student")["summary"]


def test_a_task_is_called_as_people_call_it_and_the_block_too_where_its_name_is_another():
    record = finetuned_record()
    record.downstream[0].task["description"]["title"] = "CoLA (GLUE)"
    assert text_of(record)["summary"].startswith("A model (bert (hidden size 16)) for CoLA (GLUE), fine-tuned")
    record.downstream[0].task["description"]["title"] = "MRPC (GLUE)"
    assert "for MRPC (GLUE) (`cola`), fine-tuned" in text_of(record)["summary"]


def test_baselines_claim_no_student_and_no_method():
    record = finetuned_record()
    for label in ("from_scratch", "teacher"):
        text = text_of(record, label)
        assert text["stages_table"] == text["revisions_table"] == text["citation_block"] == ""
        assert "| student |" not in text["lineage_table"]
    assert f"| 53,002 | {TEACHER_COMMIT} |" in text_of(record, "teacher")["lineage_table"]
    assert "arXiv" in text_of(record)["citation_block"]


def test_settings_are_those_of_the_block_and_of_this_seed():
    table = text_of(finetuned_record())["settings_table"]
    for row in (
        "| loss | CE(labels) |",
        "| optimizer steps | 1,200 |",
        "| task: subset | cola |",
        "| task: max length | 64 |",
        "| learning rate | 0.0005 |",
        "| save strategy | no |",
        "| seed of weights, data and dropout | 1 |",
    ):
        assert row in table
    assert "data |" not in table


def test_this_model_stands_beside_new_weights_and_the_teacher_of_its_seed():
    text = text_of(finetuned_record())
    head = text["metrics_table"].splitlines()[0]
    assert head == "| metric | this model | from new weights | its teacher, fine-tuned |"
    assert "| matthews correlation | 0.3100 | 0.1000 | 0.4000 |" in text["metrics_table"]
    assert "| two_shot | 3 | 0.3100 [0.3000 – 0.3200] |" in text["comparison_table"]
    assert "fine-tuned from" in text["comparison_table"]
    assert "share of a step spent in the teacher" not in text["cost_table"]
    assert "new weights |" not in text_of(finetuned_record(), "from_scratch")["metrics_table"]


def with_ends(two_shot, from_scratch, *, greater=True):
    record = finetuned_record(labels=("two_shot", "from_scratch"))
    block = record.downstream[0]
    block.task["greater_is_better"] = greater
    ends = {"two_shot": two_shot, "from_scratch": from_scratch}
    seeds = (1,) if len(two_shot) == 1 else (0, 1)
    block.runs = [run for run in block.runs if run.seed in seeds]
    for run in block.runs:
        values = ends[run.curriculum]
        run.final_metrics = {"matthews_correlation": values[run.seed % len(values)]}
    return record


@pytest.mark.parametrize(
    ("two_shot", "from_scratch", "greater", "said"),
    [
        ([0.3, 0.4], [0.1, 0.2], True, "Every seed from two_shot is better than every one from new weights."),
        ([0.1, 0.2], [0.3, 0.4], True, "Every seed from new weights is better than every one from two_shot."),
        ([0.1, 0.2], [0.3, 0.4], False, "Every seed from two_shot is better than every one from new weights."),
        ([0.1, 0.3], [0.2, 0.4], True, "The two ranges overlap"),
        ([0.1, 0.3], [0.3, 0.4], True, "The two ranges overlap"),
        ([0.3], [0.1], True, "With one seed there is no spread"),
        ([None, None], [0.1, 0.2], True, "cannot be compared"),
    ],
)
def test_a_difference_is_told_by_the_spread_over_seeds(two_shot, from_scratch, greater, said):
    record = with_ends(two_shot, from_scratch, greater=greater)
    assert said in spread_sentence(line_of(record))


def test_missing_new_weights_are_admitted():
    record = finetuned_record(labels=("two_shot",))
    assert "No model from new weights" in spread_sentence(line_of(record))
    assert "this model |" in text_of(record)["metrics_table"].splitlines()[0]
    assert "nobody taught it" in spread_sentence(line_of(finetuned_record(), "from_scratch"))


def test_limits_say_how_many_seeds_and_what_it_needs():
    record = finetuned_record()
    assert any(limit.startswith("One of 3 seeds") for limit in text_of(record)["limits"])
    assert "Measured on 1,043 held-out rows" in text_of(record)["limits"][0]
    record.student["origin"] = {"architecture": "parity_mlp", "config": {}}
    assert "Needs hf_distill" in text_of(record)["limits"][0]
    record.downstream[0].runs = [run for run in record.downstream[0].runs if run.seed == 1]
    assert any(limit.startswith("One seed:") for limit in text_of(record)["limits"])


def test_a_recipe_without_the_block_leaves_what_the_run_itself_knows():
    record = finetuned_record()
    record.recipe.pop("finetune")
    assert text_of(record)["settings_table"].count("\n") == 4
