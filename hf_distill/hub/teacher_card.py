"""The card of a published teacher: its revisions with their commits, and how to distil from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from hf_distill.hub.card import template_path
from hf_distill.report import wording
from hf_distill.report.tables import to_markdown
from hf_distill.teachers.checkpoint_files import TRAINER_STATE
from hf_distill.training.switching import TIMINGS, held_out_points

TEMPLATE = "teacher_card_template.md"
TAGS = ["hf_distill", "training-checkpoints"]


class TeacherRevision(NamedTuple):
    """A revision as the card lists it."""

    name: str
    step: int
    commit: str
    metrics: Mapping[str, float]


def teacher_card(repo_id: str, revisions: Sequence[TeacherRevision], *, license: str | None = None) -> ModelCard:
    """Return the card of a teacher; the same revisions give the same text.

    Args:
        repo_id: Where it is published.
        revisions: In the order of training.
        license: Id of a license of the Hub.
    """
    data = ModelCardData(library_name="transformers", license=license, tags=TAGS)
    keys = list(dict.fromkeys(key for revision in revisions for key in revision.metrics))
    rows = [
        [
            revision.name,
            wording.count(revision.step),
            revision.commit,
            *(wording.number(revision.metrics.get(key)) for key in keys),
        ]
        for revision in revisions
    ]
    heads = ["revision", "step", "commit", *(f"held-out {wording.words(key)}" for key in keys)]
    return ModelCard.from_template(
        data,
        template_path=str(template_path(TEMPLATE)),
        title=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        count=len(revisions),
        first=revisions[0].name if revisions else None,
        revisions_table=to_markdown(heads, rows, left=1).rstrip(),
    )


def held_out_metrics(checkpoint: Path) -> dict[str, float]:
    """Return the held-out metrics that the Trainer noted at a checkpoint's step; none without an evaluation there."""
    file = checkpoint / TRAINER_STATE
    if not file.is_file():
        return {}
    state = json.loads(file.read_text(encoding="utf-8"))
    points = [p for p in held_out_points(state.get("log_history") or []) if p["step"] == state.get("global_step")]
    last = points[-1] if points else {}
    return {key: value for key, value in last.items() if key != "step" and not key.endswith(TIMINGS)}
