"""A student cites what it was trained with, and nothing else."""

from __future__ import annotations

import pytest
from sample_records import student

from hf_distill.hub.citations import citations, taught_by


@pytest.mark.parametrize(
    ("revisions", "papers"),
    [
        ([], []),
        (["a"], ["1503.02531"]),
        (["a", "b"], ["1503.02531", "2410.05464"]),
        (["a", "b", "c"], ["1503.02531", "2410.05464"]),
    ],
)
def test_methods_that_were_not_used_are_not_cited(revisions, papers):
    entries = citations(student("any", 0, revisions=revisions))
    assert len(entries) == len(papers)
    assert all(paper in entry for paper, entry in zip(papers, entries, strict=True))
    assert all(entry.count("{") == entry.count("}") for entry in entries)


def test_revision_that_taught_twice_is_one_revision():
    assert taught_by(student("any", 0, revisions=["a", "b", "a"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "paper"),
    [("assistant", "1902.03393"), ("ladder", "2209.07606"), ("pruned_mix", "2311.13934"), ("ema", "1703.01780")],
)
def test_a_way_of_teaching_with_a_paper_of_its_own_is_cited(kind, paper):
    entries = citations(student("any", 0, revisions=["a"]), {"kind": kind})
    assert len(entries) == 2
    assert paper in entries[-1]
    assert entries[-1].count("{") == entries[-1].count("}")
    assert citations(student("any", 0, revisions=[]), {"kind": kind}) == [], "this student had no teacher"


def test_the_methods_of_a_student_are_cited_between_distillation_and_its_kind_of_teacher():
    run = student("any", 0, revisions=["a"])
    run.papers = ["2503.17494", "1503.02531"]
    cited = [entry.split("eprint = {")[1].split("}")[0] for entry in citations(run, {"kind": "ema"})]
    assert cited == ["1503.02531", "2503.17494", "1703.01780"]


def test_a_student_of_labels_cites_its_passes_but_no_distillation():
    run = student("any", 0, revisions=[])
    run.papers = ["2205.11416"]
    assert ["2205.11416" in entry for entry in citations(run)] == [True]


def test_a_paper_that_this_version_does_not_know_is_left_out():
    run = student("any", 0, revisions=[])
    run.papers = ["9912.00001"]
    assert citations(run) == []


@pytest.mark.parametrize("kind", ["teacher", "ensemble", "adapter_off", None])
def test_others_cite_what_every_distillation_does(kind):
    assert len(citations(student("any", 0, revisions=["a"]), {"kind": kind})) == 1
