"""The folder of a run: everything lies under `output_dir`, and it holds one recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hf_distill.atomic import atomic_write_text
from hf_distill.recipe import Recipe

RECIPE_FILE = "recipe.yaml"
OWN_FOLDERS = frozenset({"cache", "teacher", "students"})


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

    def student(self, curriculum: str, seed: int) -> Path:
        """Folder of one student."""
        return self.root / "students" / re.sub(r"[^\w.-]+", "-", curriculum) / f"seed-{seed}"

    def claim(self, recipe: Recipe, *, write: bool) -> bool:
        """Take the folder for `recipe`; return whether an earlier session of the same recipe is continued.

        Args:
            recipe: What is to be run.
            write: Whether this process writes (only the main one does).

        Raises:
            ValueError: The folder holds another recipe's run, or files that are no run.
        """
        kept = self.root / RECIPE_FILE
        if kept.exists():
            same = Recipe.load(kept).fingerprint() == recipe.fingerprint()
            if not same and self.holds_training():
                raise ValueError(
                    f"{self.root} holds a run of another recipe (see {kept}); nothing was changed. Choose another "
                    "folder with --set output_dir=..., or move the old one away"
                )
            if same:
                return True
        elif self.root.exists() and (
            self.holds_training() or any(e.name not in OWN_FOLDERS for e in self.root.iterdir())
        ):
            raise ValueError(
                f"{self.root} exists and is not empty, but holds no hf_distill run; choose another folder with "
                "--set output_dir=..."
            )
        if write:
            self.root.mkdir(parents=True, exist_ok=True)
            atomic_write_text(kept, recipe.to_yaml())
        return False

    def holds_training(self) -> bool:
        """Whether anything was trained here; a recipe that failed its checks leaves nothing worth keeping."""
        return any(self.root.glob("**/checkpoint-*")) or any(self.root.glob("students/*/*/student_run.json"))
