"""What students learned from, stage by stage, and the teacher's revisions, as rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hf_distill.analysis.drawing import series_colour
from hf_distill.report import wording
from hf_distill.report.curves import runs_by_curriculum
from hf_distill.report.who_taught import indented, with_members
from hf_distill.run_record import RunRecord


def stage_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return the stages of all curricula as rows; steps that differ between seeds are given as a range."""
    rows: list[dict[str, Any]] = []
    for place, (curriculum, runs) in enumerate(runs_by_curriculum(record).items()):
        longest = max(runs, key=lambda run: len(run.stages)).stages
        for index, stage in enumerate(longest):
            same = [run.stages[index] for run in runs if index < len(run.stages)]
            rows.append(
                {
                    "curriculum": curriculum,
                    "colour": series_colour(place),
                    "rows": len(longest) if index == 0 else 0,
                    "name": stage.name,
                    "revision": stage.revision,
                    "terms": stage.terms,
                    "start": _range([one.start for one in same]),
                    "end": _range([one.end for one in same]),
                }
            )
    return rows


def loss_formulas(record: RunRecord) -> dict[str, str]:
    """Return each curriculum's loss, unless the table of its stages says the same."""
    return {
        run.curriculum: run.loss_formula
        for run in record.runs
        if run.stages and run.loss_formula != " + ".join(run.stages[-1].terms)
    }


def revision_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return the teacher's revisions, with those they are made of, and whether each taught a student."""
    taught = {stage.revision for run in record.runs for stage in run.stages}
    listed = [one for revision in record.revisions() for one in with_members(revision)]
    return [
        {**asdict(one), "name": indented(one.name, depth), "taught": not depth and one.name in taught}
        for depth, one in listed
    ]


def _range(steps: Sequence[int | None]) -> str:
    known = [step for step in steps if step is not None]
    if not known:
        return wording.UNKNOWN
    low, high = wording.count(min(known)), wording.count(max(known))
    return low if low == high else f"{low} – {high}"
