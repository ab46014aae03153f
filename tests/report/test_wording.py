"""Numbers as readers see them."""

from __future__ import annotations

import pytest

from hf_distill.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.997, "0.9970"),
        (0.0, "0.0000"),
        (2.25, "2.2500"),
        (37.126, "37.13"),
        (12345.678, "12,345.68"),
        (4e-5, "4e-05"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_metrics_line_up_and_unknown_ones_are_not_numbers(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0026, "2.6 ms"),
        (8.44, "8.44 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (12000, "3 h 20 min"),
        (None, "–"),
    ],
)
def test_durations_do_not_show_60_seconds(value, text):
    assert wording.seconds(value) == text


def test_sizes_counts_shares_and_settings_are_readable():
    assert [wording.size(value) for value in (512, 734003200, 3 * 1024**3, None)] == [
        "512 bytes",
        "700 MiB",
        "3 GiB",
        "–",
    ]
    assert [wording.count(value) for value in (1234567, 725.0, None)] == ["1,234,567", "725", "–"]
    assert [wording.percent(value) for value in (0.313, 0.0, None)] == ["31.3 %", "0 %", "–"]
    assert wording.setting(0.99) == "0.99"
    assert wording.words("exact_match") == "exact match"


def test_command_shows_the_program_and_not_where_it_lies():
    assert wording.command_line(["/opt/env/bin/hf-distill", "run", "a b.yaml"]) == "hf-distill run 'a b.yaml'"
    assert wording.command_line(["/opt/hf_distill/__main__.py", "run"]) == "python -m hf_distill run"
    assert wording.command_line([]) == ""


def test_a_task_goes_by_its_title_or_by_its_name():
    assert wording.task_title({"name": "glue", "description": {"title": "MRPC (GLUE)"}}) == "MRPC (GLUE)"
    assert wording.task_title({"name": "masked_lm"}) == "masked lm"
