"""Write the results of finished runs into the Markdown pages that show them, so that no figure is typed by hand.

A page marks the place with `<!-- results: NAME -->` and `<!-- end -->`, NAME being the recipe's name, or NAME/BLOCK
for a block of its `finetune:`; `<!-- evaluation: NAME -->` takes the table of `hf-distill evaluate`.

    python scripts/update_results.py recipes/README.md README.md --runs runs/parity-quickstart runs/parity-extraction
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from hf_distill.atomic import atomic_write_text
from hf_distill.evaluation.record import Evaluation
from hf_distill.report.evaluation_rows import evaluated_markdown, evaluated_table
from hf_distill.report.tables import summary_markdown, summary_table
from hf_distill.run_record import RunRecord


def block(record: RunRecord) -> str:
    """Return the table of a run and the line that says how it came about."""
    assert record.finished is not None, f"{record.name} has not finished"
    # Of the trainings, in whatever sessions: between started and finished lies the last session only.
    spent = [record.teacher.get("seconds"), *(run.costs.get("seconds") for run in record.runs)]
    seconds = sum(number for number in spent if number)
    metric, final = record.task["metric"], record.teacher.get("final_metrics", {})
    teacher = f"Teacher: {metric} {final[metric]:.4g}. " if metric in final else ""
    asked = "auto" in json.dumps([record.recipe.get("compare"), record.recipe.get("curriculum")])
    chosen = f"Revision found by `auto`: {record.teacher['chosen']}. " if asked and record.teacher["chosen"] else ""
    versions = f"torch {record.versions['torch']}, transformers {record.versions['transformers']}"
    seeds = ", ".join(str(seed) for seed in record.recipe["seeds"])
    device = record.environment["device"]
    how = f"Seeds {seeds}; {record.started[:10]}; {seconds:.0f} s of training on {device}; {versions}."
    return f"{summary_markdown(summary_table(record)).strip()}\n\n{teacher}{chosen}{how}"


def blocks_of(run: Path) -> dict[str, str]:
    """Return what a run's folder has for pages, by mark."""
    record, evaluation = RunRecord.load(run), Evaluation.load(run)
    found = {f"results: {record.name}": block(record)} if record.runs else {}
    for one in record.downstream:
        found[f"results: {record.name}/{one.name}"] = block(record.finetuned(one.name))
    if evaluation is not None:
        found[f"evaluation: {record.name}"] = evaluated_markdown(evaluated_table(evaluation)).strip()
    return found


def main() -> None:
    """Replace the marked blocks of the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--runs", nargs="+", type=Path, required=True, help="output folders of finished runs")
    options = parser.parse_args()
    blocks = {mark: text for run in options.runs for mark, text in blocks_of(run).items()}
    for page in options.pages:
        text = page.read_text(encoding="utf-8")
        for mark, found in blocks.items():
            marked = re.compile(rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- end -->)", re.DOTALL)
            text, count = marked.subn(lambda match, found=found: f"{match[1]}\n{found}\n\n{match[2]}", text)
            print(f"{page}: {mark}: {count} place(s)")
        atomic_write_text(page, text)


if __name__ == "__main__":
    main()
