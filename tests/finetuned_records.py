"""Run records of students that were fine-tuned, for tests of what is said of them and pushed."""

from __future__ import annotations

from evaluated import downstream_block
from sample_records import sample_record

from hf_distill.run_record import RevisionRecord, RunRecord

FINETUNE = {
    "name": "cola",
    "task": {"name": "glue", "subset": "cola", "data": {"path": "glue/cola"}, "max_length": 64},
    "training": {"learning_rate": 0.0005, "max_steps": 4, "save_strategy": "no"},
    "seeds": None,
    "from_scratch": True,
    "teacher": True,
}
STUDENT_PIN, TEACHER_COMMIT = "sha256:" + "5" * 64, "b" * 40


def finetuned_record(labels: tuple[str, ...] = ("two_shot", "from_scratch", "teacher")) -> RunRecord:
    """Return `sample_record` with its two-shot students fine-tuned on CoLA beside its baselines, three seeds each."""
    block = downstream_block(labels=labels)
    block.task["description"] |= {
        "datasets": ["nyu-mll/glue@" + "d" * 40],
        "preprocessing": "sentence; at most 64 tokens (none cut)",
        "tokenizer": {"pretrained": "students/two_shot/seed-0"},
        "train_rows": 8551,
        "validation_rows": 1043,
    }
    for run in block.runs:
        run.began_with = began_with(run.curriculum, run.seed)
    record = sample_record(downstream=[block])
    record.recipe["finetune"] = [FINETUNE]
    record.student["origin"] = {"architecture": "bert", "config": {"hidden_size": 16}}
    return record


def began_with(label: str, seed: int) -> RevisionRecord | None:
    """Return what a fine-tuning began with: a folder of the run, or a commit of the teacher's repository."""
    if label == "from_scratch":
        return None
    if label == "teacher":
        return RevisionRecord(
            name="step-5000", step=5000, source="acme/parity-teacher", revision="step-5000", commit=TEACHER_COMMIT
        )
    source = f"students/{label}/seed-{seed}"
    return RevisionRecord(name=f"{label}, seed {seed}", step=None, source=source, revision=None, commit=STUDENT_PIN)


def undistilled_record() -> RunRecord:
    """Return a run that distilled nothing and fine-tuned a student of the Hub, three seeds of it."""
    record = finetuned_record(labels=("two_shot", "from_scratch"))
    commit = "e" * 40
    for run in record.downstream[0].runs:
        if run.curriculum == "two_shot":
            run.curriculum = "student"
            run.began_with = RevisionRecord(
                name="main", step=None, source="acme/student", revision="main", commit=commit
            )
    record.runs, record.teacher = [], {}
    record.downstream[0].carried = {"student": 1.0}
    record.student = {"origin": {"pretrained": "acme/student"}}
    record.task.pop("description")
    return record
