"""A teacher's checkpoints on the Hub: each a revision `step-N`, in order, the finished model on main.

A revision appears whole or not at all: its files are committed on a branch of their own, and only then does the
revision's name point to that commit. Started again, a cut or killed publication goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from hf_distill.hub.hub_writer import HubWriter, is_same
from hf_distill.hub.publishable import folder_problem, is_model_file, model_files
from hf_distill.hub.teacher_card import TeacherRevision, held_out_metrics, teacher_card
from hf_distill.teachers.checkpoint_files import CHECKPOINT_NAME, checkpoints_in, trainer_checkpoint_problem
from hf_distill.teachers.revisions import resolve_revisions
from hf_distill.teachers.selection import Selection

STAGING = "hf-distill-publishing"
ATTRIBUTES = ".gitattributes"
TEACHER_FOLDER = "teacher"
_REVISION = re.compile(r"step-(\d+)")

Kind = Literal["branch", "tag"]
Outcome = Literal["pushed", "there already"]


class Snapshot(NamedTuple):
    """A whole checkpoint on disk and the revision it becomes."""

    name: str
    step: int
    folder: Path


class Published(NamedTuple):
    """A revision on the Hub."""

    name: str
    commit: str
    outcome: Outcome


def publish_teacher(
    run_dir: str | Path,
    writer: HubWriter,
    *,
    kind: Kind = "branch",
    every: int = 1,
    private: bool = False,
    license: str | None = None,
    on_revision: Callable[[Published, int, int], None] = lambda published, done, total: None,
) -> list[Published]:
    """Push every checkpoint of a training as a revision `step-N`, then the finished model with a card to main.

    What the Hub holds already, by the hashes of the files, is left alone. Optimizer, random states and training
    arguments are never pushed.

    Args:
        run_dir: A Trainer's output folder, or that of a recipe that trained its teacher.
        writer: Of the repository, which is made where it does not exist.
        kind: What a revision is: a branch or a tag.
        every: Push every n-th checkpoint from the first on; the last one always.
        private: Make a private repository, and refuse one that is public.
        license: Id of a license of the Hub, for the card.
        on_revision: Told of each revision, with how many are done and how many there are, main among them.

    Returns:
        The revisions in order, main last.

    Raises:
        ValueError: No checkpoint, a half-written one (named), a revision of that name with another content, or the
            Hub refuses.
        HubUnavailable: The Hub stayed out of reach; start again to go on.
    """
    root = teacher_folder(run_dir)
    snapshots = Selection(revisions=str(root), every=every).of(snapshots_in(root))
    final = resolve_revisions(root)[-1].folder or root
    writer.create(private=private)
    done: list[Published] = []
    for snapshot in snapshots:
        done.append(put_revision(writer, snapshot.name, model_files(snapshot.folder), kind=kind))
        on_revision(done[-1], len(done), len(snapshots) + 1)
    metrics = {snapshot.name: held_out_metrics(snapshot.folder) for snapshot in snapshots}
    done.append(put_final(writer, final, metrics, license=license))
    on_revision(done[-1], len(done), len(done))
    return done


def teacher_folder(run_dir: str | Path) -> Path:
    """Return the folder with the checkpoints: `run_dir`, or the teacher's inside a recipe's output.

    Raises:
        ValueError: Neither holds a checkpoint.
    """
    places = [Path(run_dir), Path(run_dir) / TEACHER_FOLDER]
    for place in places:
        if checkpoints_in(place):
            return place
    raise ValueError(
        f"{places[0]} holds no checkpoint-* and no {TEACHER_FOLDER}/checkpoint-*; give the output folder of a Trainer "
        "that kept its checkpoints (save_strategy: steps, save_total_limit: null)"
    )


def snapshots_in(root: Path) -> list[Snapshot]:
    """Return the checkpoints of a folder by step.

    Raises:
        ValueError: One is half-written; the message names it, and nothing has been pushed.
    """
    folders = checkpoints_in(root)
    for folder in folders:
        problem = trainer_checkpoint_problem(folder, save_only_model=True) or folder_problem(folder)
        if problem:
            raise ValueError(
                f"{folder} is not a whole checkpoint: {problem}. Nothing was pushed; delete that folder, or let the "
                "training finish it"
            )
    return [snapshot_of(folder) for folder in folders]


def snapshot_of(folder: Path) -> Snapshot:
    """Return the snapshot that a `checkpoint-N` folder becomes: revision `step-N`."""
    match = CHECKPOINT_NAME.fullmatch(folder.name)
    assert match is not None, folder
    return Snapshot(f"step-{int(match[1])}", int(match[1]), folder)


def put_revision(writer: HubWriter, name: str, files: Mapping[str, Path], *, kind: Kind) -> Published:
    """Make a revision that holds these files and nothing else; one that is there already is left alone.

    Raises:
        ValueError: A revision of that name holds something else: a published revision is what others have pinned.
    """
    refs = writer.refs()
    if name in refs:
        there = writer.files(name)
        there.pop(ATTRIBUTES, None)
        if there.keys() == files.keys() and all(is_same(path, there[key]) for key, path in files.items()):
            return Published(name, refs[name], "there already")
        raise ValueError(
            f"{writer.repo_id} has a revision {name!r} with another content. Publish into another repository, or "
            f"delete that branch or tag first if no student was taught by it"
        )
    if STAGING not in refs:
        writer.create_branch(STAGING, commit=writer.first_commit())
    commit = writer.put(files, branch=STAGING, message=name, replaces=lambda path: path != ATTRIBUTES).commit
    (writer.create_branch if kind == "branch" else writer.create_tag)(name, commit=commit)
    return Published(name, commit, "pushed")


def put_final(
    writer: HubWriter, folder: Path, metrics: Mapping[str, Mapping[str, float]], *, license: str | None = None
) -> Published:
    """Bring main to hold the finished model and a card that lists the repository's revisions.

    Args:
        writer: Of the repository.
        folder: The finished model.
        metrics: Held-out metrics of the revisions whose checkpoints are at hand, by name.
        license: Id of a license of the Hub, for the card.
    """
    refs = writer.refs()
    steps = {name: int(match[1]) for name in refs if (match := _REVISION.fullmatch(name))}
    revisions = [
        TeacherRevision(name, step, refs[name], metrics.get(name, {}))
        for name, step in sorted(steps.items(), key=lambda item: item[1])
    ]
    card = teacher_card(writer.repo_id, revisions, license=license)
    files: dict[str, Path | bytes] = {**model_files(folder), "README.md": str(card).rstrip().encode() + b"\n"}
    written = writer.put(files, message="The finished teacher", replaces=is_model_file)
    writer.delete_branch(STAGING)
    return Published("main", written.commit, "pushed" if written.new else "there already")
