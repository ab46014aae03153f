from __future__ import annotations

import pytest
from sample_records import sample_record, taught_record

from hf_distill.report.page import render
from hf_distill.report.who_taught import (
    indented,
    model_cells,
    model_headers,
    models_info,
    short,
    taught_by_text,
    with_members,
)


def test_one_teacher_alone_needs_no_table():
    assert models_info(sample_record()) == []


def test_each_model_has_its_metric_time_teacher_and_pin():
    record = taught_record()
    rows = [model_cells(row) for row in models_info(record)]
    assert len(model_headers(record)) == len(rows[0]) == 7
    assert rows[0] == [
        "teacher", "resnet (depths [2, 2])", "labels", "90,000", "0.9800", "12.5 s", "sha256:aaaaaaaaaaaa"
    ]  # fmt: skip
    assert rows[1][:3] == ["assistant 1", "org/assistant", "the teacher, by one_shot"]
    assert rows[1][3:] == ["–", "0.9700", "–", "bbbbbbbbbbbb"]


@pytest.mark.parametrize(
    ("teacher", "revisions", "text"),
    [
        ({}, 2, "2 revisions of its teacher"),
        ({"kind": "teacher"}, 1, "one revision of its teacher"),
        (
            {"kind": "assistant", "source": "assistant 2: x"},
            1,
            "one revision of a teaching assistant of its teacher (as",
        ),
        ({"kind": "ensemble", "revisions": [{"members": [{}, {}, {}]}]}, 1, "an ensemble of 3 teachers"),
        ({"kind": "ladder", "revisions": [{"members": [{}, {}]}]}, 1, "a ladder of 2 teachers, one of which answered"),
        ({"kind": "pruned_mix"}, 1, "one revision of its teacher, mixed with a pruned copy of it"),
        ({"kind": "ema"}, 1, "its own moving average"),
        ({"kind": "adapter_off"}, 1, "itself without its adapter"),
    ],
)
def test_what_taught_is_said_in_words(teacher, revisions, text):
    assert taught_by_text(teacher, revisions).startswith(text)


def test_members_follow_what_is_made_of_them():
    (revision,) = taught_record().revisions()
    listed = [(depth, one.name) for depth, one in with_members(revision)]
    assert listed == [(0, "ladder"), (1, "main"), (1, "checkpoint-60")]
    assert [indented(name, depth) for depth, name in listed] == ["ladder", "· main", "· checkpoint-60"]


def test_pins_are_shortened_for_tables_only():
    assert short("sha256:" + "a" * 64) == "sha256:" + "a" * 12
    assert short("b" * 40) == "b" * 12


def test_the_page_shows_the_models_and_every_pin():
    record = taught_record()
    page = render(record, pictures={}, title="x")
    assert "<h3>Who taught whom</h3>" in page
    assert "The students learned from: ladder of 2, by loss." in page
    for _, one in with_members(record.revisions()[0]):
        assert one.commit in page
    assert page.count('<span class="tag">taught</span>') == 1
    assert "Who taught whom" not in render(sample_record(), pictures={}, title="x")
