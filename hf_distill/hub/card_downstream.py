"""What became of a student downstream: its fine-tunings beside those from scratch and of its teacher, for its card."""

from __future__ import annotations

from hf_distill.report import wording
from hf_distill.report.tables import to_markdown
from hf_distill.run_record import DownstreamRecord, RunRecord, StudentRun


def downstream_table(record: RunRecord, run: StudentRun) -> str:
    """Return a Markdown table, a row a task that this student was fine-tuned on; empty where there is none.

    Args:
        record: The run.
        run: The student.
    """
    rows = [row for block in record.downstream if (row := _row(block, run)) is not None]
    heads = ["task", "metric", "from this student", "from new weights", "its teacher"]
    return to_markdown(heads, rows, left=2) if rows else ""


def _row(block: DownstreamRecord, run: StudentRun) -> list[str] | None:
    metric = str(block.task["metric"])
    found = {one.curriculum: one.final_metrics.get(metric) for one in block.runs if one.seed == run.seed}
    if run.curriculum not in found:
        return None
    ends = [wording.number(found.get(label)) for label in (run.curriculum, "from_scratch", "teacher")]
    return [block.name, wording.words(metric), *ends]
