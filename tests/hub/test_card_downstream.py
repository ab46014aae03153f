"""A student's card says what became of it downstream, beside new weights and its teacher, and nothing else's."""

from __future__ import annotations

from evaluated import downstream_block
from sample_records import sample_record

from hf_distill.hub.card import student_card
from hf_distill.hub.card_downstream import downstream_table


def test_the_fine_tunings_of_this_student_stand_in_its_card():
    record = sample_record(downstream=[downstream_block(), downstream_block(name="mrpc", labels=("two_shot",))])
    run = next(run for run in record.runs if (run.curriculum, run.seed) == ("two_shot", 2))
    table = downstream_table(record, run)
    assert "| cola | matthews correlation | 0.3200 | 0.1100 | 0.4100 |" in table
    assert "| mrpc | matthews correlation | 0.3200 | – | – |" in table
    assert table.rstrip() in str(student_card(record, curriculum="two_shot", seed=2))


def test_a_student_that_was_not_fine_tuned_has_no_table():
    record = sample_record(downstream=[downstream_block()])
    assert downstream_table(record, record.runs[0]) == ""
    text = str(student_card(record, curriculum="labels", seed=0))
    assert "Fine-tuned" not in text
    assert "\n\n\n" not in text
