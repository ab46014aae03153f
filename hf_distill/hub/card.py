"""A student's model card: who taught whom, with what, how well, at what cost, and how to do it again.

Everything in it comes from the run record; tokens and paths of this machine are taken out first.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from hf_distill.atomic import atomic_write_text
from hf_distill.hub.card_data import student_card_data
from hf_distill.hub.card_text import student_card_text
from hf_distill.redaction import without_local_paths, without_secrets
from hf_distill.report.tables import markdown_text
from hf_distill.run_record import RunRecord, StudentRun
from hf_distill.strict_dataclass import from_mapping

FILE_NAME = "README.md"
TEMPLATE = "student_card_template.md"


def student_card(
    record: RunRecord,
    *,
    curriculum: str,
    seed: int,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    picture: str | None = None,
) -> ModelCard:
    """Return the card of one student of a run.

    Args:
        record: The run.
        curriculum: Label of the student's curriculum in the record.
        seed: Its seed.
        name: Title. Default: the run's name, the curriculum and the seed.
        repo_id: Where the student will be published, for the example code. Default: its folder.
        license: Id of a license of the Hub. Default: `license` of the record's student, or none.
        language: ISO 639 code or codes.
        picture: File name of the learning curves, if they lie beside the card.

    Raises:
        ValueError: The record has no such student; the message names those it has.
        FileNotFoundError: The template is missing from the installation.
    """
    record = publishable_record(record)
    run = _find(record, curriculum, seed)
    title = name or f"{record.name}-{curriculum}-seed-{seed}"
    data = student_card_data(
        record, run, name=title, license=license or record.student.get("license"), language=language
    )
    text: dict[str, Any] = student_card_text(record, run, repo_id=repo_id)
    return ModelCard.from_template(
        data, template_path=str(template_path()), title=markdown_text(title), picture=picture, **text
    )


def save_student_card(record: RunRecord, folder: str | Path, *, curriculum: str, seed: int, **options: Any) -> Path:
    """Write the card of one student as README.md into a folder, whole or not at all.

    Args:
        record: The run.
        folder: Where the student lies.
        curriculum: Label of the student's curriculum in the record.
        seed: Its seed.
        options: As for `student_card`.
    """
    card = student_card(record, curriculum=curriculum, seed=seed, **options)
    return atomic_write_text(Path(folder) / FILE_NAME, str(card).rstrip() + "\n")


def publishable_record(record: RunRecord) -> RunRecord:
    """Return a copy of a record without tokens and without paths of this machine."""
    return from_mapping(RunRecord, without_local_paths(without_secrets(record.to_dict())))


def template_path(name: str = TEMPLATE) -> Path:
    """Return a template: the copy inside an installed package, else `model_cards/` beside the package.

    Args:
        name: File name of the template.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    package = Path(str(resources.files("hf_distill")))
    places = [package / "_data" / "model_cards" / name, package.parent / "model_cards" / name]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{name} is in neither {places[0].parent} nor {places[1].parent}: reinstall hf-distill.")


def _find(record: RunRecord, curriculum: str, seed: int) -> StudentRun:
    for run in record.runs:
        if (run.curriculum, run.seed) == (curriculum, seed):
            return run
    known = ", ".join(f"{run.curriculum} with seed {run.seed}" for run in record.runs) or "none"
    raise ValueError(f"the record {record.name!r} has no student {curriculum!r} with seed {seed}; it has: {known}.")
