"""The folder of a run: everything lies under `output_dir`, and it holds one recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_distill.atomic import atomic_write_json, atomic_write_text
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.recipe.recipe import Recipe
from hf_distill.wording import join_path

RECIPE_FILE = "recipe.yaml"
REVISIONS_FILE = "teacher_revisions.json"
OWN_FOLDERS = frozenset(
    {"cache", "teacher", "members", "assistants", "students", "targets", "made_student", "finetune"}
)
_MOST_NAMED = 5
_MAY_GROW = ("seeds", "curriculum", "compare")


@dataclass(frozen=True)
class Workspace:
    """Paths of a run.

    Attributes:
        root: The recipe's `output_dir`.
    """

    root: Path

    @property
    def cache(self) -> Path:
        """Tokenizers and other things made once for all runs of the recipe."""
        return self.root / "cache"

    @property
    def teacher(self) -> Path:
        """Checkpoints of a teacher that the recipe trains."""
        return self.root / "teacher"

    @property
    def targets(self) -> Path:
        """Cached targets of the teacher."""
        return self.root / "targets"

    @property
    def made_student(self) -> Path:
        """A student as it was cut out of its teacher, before any training."""
        return self.root / "made_student"

    def member(self, place: int) -> Path:
        """Checkpoints of an ensemble's member that the recipe trains, counted from 1."""
        return self.root / "members" / str(place)

    def assistant(self, place: int) -> Path:
        """Checkpoints of a teaching assistant, counted from 1."""
        return self.root / "assistants" / str(place)

    def finetuned(self, name: str) -> Path:
        """Fine-tunings of the students on a downstream task."""
        return self.root / "finetune" / name

    def student(self, curriculum: str, seed: int) -> Path:
        """Folder of one student."""
        return self.root / "students" / re.sub(r"[^\w.-]+", "-", curriculum) / f"seed-{seed}"

    def claim(self, recipe: Recipe, *, write: bool, renew: bool = True) -> bool:
        """Take the folder for `recipe`; return whether an earlier session of the same recipe is continued.

        More seeds or curricula leave it the same recipe: its finished students are kept.

        Args:
            recipe: What is to be run.
            write: Whether this process writes (only the main one does).
            renew: Whether what decides nothing is kept as `recipe` has it, where it has changed.

        Raises:
            ValueError: The folder holds another recipe's run, or files that are no run; or there can be no folder.
        """
        self.check_place()
        kept = self.root / RECIPE_FILE
        if kept.exists():
            before = Recipe.load(kept)
            same = before.fingerprint() == recipe.fingerprint() or goes_on(before, recipe)
            if not same and self.holds_training():
                differing = differences(before.deciding(), recipe.deciding())
                more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
                raise ValueError(
                    f"{self.root} holds a run of another recipe ({kept}), which differs in "
                    f"{', '.join(differing[:_MOST_NAMED])}{more}; nothing was changed. Choose another folder with "
                    "--set output_dir=..., or move the old one away"
                )
            if same:
                if write and renew and before != recipe:
                    # Names, the report, fine-tunings may have changed, and seeds or curricula been added.
                    atomic_write_text(kept, recipe.to_yaml())
                return True
        elif self.root.exists() and (
            self.holds_training() or any(e.name not in OWN_FOLDERS for e in self.root.iterdir())
        ):
            raise ValueError(
                f"{self.root} exists and is not empty, but holds no hf_distill run; choose another folder with "
                "--set output_dir=..."
            )
        if write:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                atomic_write_text(kept, recipe.to_yaml())
            except OSError as error:
                raise ValueError(f"output_dir: nothing can be written to {self.root}: {error.strerror}") from error
        return False

    def check_place(self) -> None:
        """Refuse an `output_dir` that cannot be a folder.

        Raises:
            ValueError: There is a file in its place, or above it.
        """
        for place in (self.root, *self.root.parents):
            if place.exists():
                if not place.is_dir():
                    raise ValueError(f"output_dir: {place} is a file; expected a folder, or a place for one")
                return

    def pin_teacher(self, manifest: Sequence[dict[str, Any]], *, write: bool) -> None:
        """Note the teacher's revisions, or compare them with those that the students here have learned from.

        Args:
            manifest: Name and commit (and more) of each revision.
            write: Whether this process writes.

        Raises:
            ValueError: There are students here, and the revisions they learned from were others.
        """
        file = self.root / REVISIONS_FILE
        before = read_kept(file, list) if file.exists() else list(manifest)
        if [r["commit"] for r in before] != [r["commit"] for r in manifest] and self.holds_students():
            was, now = (
                ", ".join(f"{r['name']} ({r['commit']})" for r in side if r["commit"] not in other)
                for side, other in (
                    (before, {r["commit"] for r in manifest}),
                    (manifest, {r["commit"] for r in before}),
                )
            )
            raise ValueError(
                f"the teacher has changed since students in {self.root} learned from it: it had {was or 'no others'}, "
                f"now it has {now or 'no others'}. Bring the old revisions back, or choose another folder with "
                "--set output_dir=..."
            )
        if write:
            atomic_write_json(file, list(manifest))

    def holds_students(self) -> bool:
        """Whether students were trained here, or begun."""
        return any(self.root.glob("students/*/*/checkpoint-*")) or any(self.root.glob("students/*/*/*.json"))

    def holds_training(self) -> bool:
        """Whether anything was trained here; a recipe that failed its checks leaves nothing worth keeping."""
        results = ("students/*/*/student_run.json", "**/finished.json")
        return any(any(self.root.glob(pattern)) for pattern in ("**/checkpoint-*", *results))


def goes_on(before: Recipe, recipe: Recipe) -> bool:
    """Return whether a recipe has all that an earlier one had, and more seeds or curricula.

    The first seed stays the first: it decides how data are split.
    """
    was, now = before.deciding(), recipe.deciding()
    seeds = before.seeds[0] == recipe.seeds[0] and set(before.seeds) <= set(recipe.seeds)
    students = recipe.curricula()
    kept = all(students.get(label) == curriculum for label, curriculum in before.curricula().items())
    other, others = ({key: side[key] for key in side if key not in _MAY_GROW} for side in (was, now))
    return seeds and kept and not differences(other, others)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the key paths at which two plain mappings differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        return [found for key in keys for found in differences(one.get(key), other.get(key), join_path(path, key))]
    # As text: a fingerprint tells 1 from 1.0 and true.
    return [] if json.dumps(one) == json.dumps(other) else [path]
