"""A recipe: YAML read into dataclasses; a typo or an impossible combination is an error before any training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_distill.atomic import atomic_write_text
from hf_distill.recipe.checks import check_recipe
from hf_distill.recipe.finetune_spec import FinetuneSpec
from hf_distill.recipe.overrides import apply_overrides
from hf_distill.recipe.strict_yaml import dump_yaml, load_yaml
from hf_distill.recipe.student_checks import FROM_TEACHER
from hf_distill.recipe.teacher_spec import TeacherSpec
from hf_distill.strict_dataclass import from_mapping, to_mapping
from hf_distill.student_making.cut import StudentCut
from hf_distill.wording import did_you_mean, given

# What may change between two sessions of one run without making it another run.
_NOT_IN_FINGERPRINT = ("name", "description", "paper", "output_dir", "finetune", "report")
# Folders beside the recipes that hold launch configurations, not recipes.
_NO_RECIPES = ("accelerate",)


@dataclass(kw_only=True)
class StudentSpec:
    """What the student is."""

    model: dict[str, Any] = field(
        metadata={
            "help": "{architecture, config} for a fresh model, {pretrained, revision} for a trained one, "
            "{from_teacher: {layers: spaced:3, ...}} for one that is cut out of the teacher."
        }
    )
    lora: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Train a LoRA adapter only, of these peft.LoraConfig keys: {r, lora_alpha, target_modules, ...}."
        },
    )
    quantization: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Quantise the base below the adapter by bitsandbytes: {load_in_4bit: true, ...} as "
            "transformers.BitsAndBytesConfig."
        },
    )
    export: Literal["merged", "adapter"] | None = field(
        default=None,
        metadata={
            "help": "What is left of an adapted student: its base with the adapter merged into it, or the adapter "
            "alone; null: merged, and adapter on a quantised base."
        },
    )

    @property
    def cut(self) -> StudentCut | None:
        """What of its teacher the student keeps; None for a student that is not cut out of it.

        Raises:
            ValueError: An unknown key, or a value of the wrong type.
        """
        if FROM_TEACHER not in self.model:
            return None
        return from_mapping(StudentCut, self.model[FROM_TEACHER], path=f"student.model.{FROM_TEACHER}")


@dataclass(kw_only=True)
class ReportSpec:
    """The page that sums a run up."""

    enabled: bool = field(default=True, metadata={"help": "Write report.html and its pictures."})
    title: str | None = field(default=None, metadata={"help": "Heading of the report; the recipe's name otherwise."})
    analyses: list[Literal["evaluation", "sensitivity"]] = field(
        default_factory=list,
        metadata={"help": "Ask these of the finished models and show them: quality, fidelity and cost; sensitivity."},
    )


@dataclass(kw_only=True)
class Recipe:
    """The whole job: a task, a teacher, one or several curricula, and a student for each of them and each seed."""

    name: str = field(default="", metadata={"help": "Short name; that of the file or output_dir otherwise."})
    description: str | None = field(default=None, metadata={"help": "One line, shown by `hf-distill recipes`."})
    paper: str | None = field(default=None, metadata={"help": "Where the method or setting comes from."})
    output_dir: str = field(metadata={"help": "Folder for everything the run leaves."})
    task: dict[str, Any] = field(metadata={"help": "`name` of a task and its options."})
    teacher: TeacherSpec | None = field(default=None, metadata={"help": "Needed by every curriculum but labels."})
    student: StudentSpec = field(metadata={"help": "The model to train."})
    curriculum: dict[str, Any] | None = field(
        default=None, metadata={"help": "`name` of a curriculum and its options; or use `compare`."}
    )
    compare: dict[str, dict[str, Any]] | None = field(
        default=None,
        metadata={"help": "Label -> curriculum, each with its own `training` overrides; or use `curriculum`."},
    )
    training: dict[str, Any] = field(default_factory=dict, metadata={"help": "Training arguments of every student."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "One student a curriculum and seed."})
    level: float | None = field(
        default=None, metadata={"help": "Report the steps to this level of the task's metric."}
    )
    finetune: list[FinetuneSpec] = field(
        default_factory=list,
        metadata={
            "help": "Tasks to fine-tune the finished students on; without a curriculum, the student of `pretrained`."
        },
    )
    report: ReportSpec = field(default_factory=ReportSpec, metadata={"help": "The page that sums the run up."})

    def __post_init__(self) -> None:
        self.name = self.name or Path(self.output_dir).name
        check_recipe(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe file, or a recipe of the package by its name.

        Args:
            path: A YAML file, or a name such as "parity/quickstart" (see `available_recipes`).
            overrides: Changes such as "training.max_steps=100" or "compare=null", applied before the checks.

        Raises:
            ValueError: No such recipe, no YAML, or a wrong recipe; the message gives the file and the key or line.
        """
        file = find_recipe(path)
        mapping = apply_overrides(_read_mapping(file), overrides)
        try:
            return cls.from_dict({"name": file.stem, **mapping})
        except ValueError as error:
            # Keys only: a value may be a secret that was put in the wrong place.
            changed = f" with {', '.join(text.partition('=')[0] for text in overrides)} set" if overrides else ""
            raise ValueError(f"{file}{changed}: {error}") from error

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Recipe:
        """Build a recipe from plain data, which is copied.

        Raises:
            ValueError: An unknown or missing key, a wrong type or an impossible combination, named by its key path.
        """
        return from_mapping(cls, mapping)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, defaults included."""
        return to_mapping(self)

    def to_yaml(self) -> str:
        """Return the text of a recipe file that reads back equal."""
        return dump_yaml(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the recipe as YAML, atomically."""
        return atomic_write_text(path, self.to_yaml())

    def curricula(self) -> dict[str, dict[str, Any]]:
        """Return label -> curriculum: those of `compare`, or the single one under its name.

        Each has a `name` (in `compare` the label, where none is given) and, where given, its `training` overrides.
        """
        if self.compare is None:
            return {self.curriculum["name"]: dict(self.curriculum)} if self.curriculum is not None else {}
        return {label: {"name": label, **curriculum} for label, curriculum in self.compare.items()}

    def curriculum_path(self, label: str) -> str:
        """Return the key path of the curriculum of a label."""
        return "curriculum" if self.compare is None else f"compare.{label}"

    def deciding(self) -> dict[str, Any]:
        """Return what decides the students, as plain data: all but name, description, paper, output_dir and report.

        Fine-tunings come after them, and each of their folders knows its own settings.

        Whether a teacher runs or was cached does not decide them; which cache stands for a teacher without a source
        does.
        """
        kept = {key: value for key, value in self.to_dict().items() if key not in _NOT_IN_FINGERPRINT}
        if self.teacher is not None and (self.teacher.can_run or not self.teacher.cached):
            kept["teacher"] = {key: value for key, value in kept["teacher"].items() if key != "cached"}
        return kept

    def fingerprint(self) -> str:
        """Return the hex SHA-256 of what decides the results."""
        canonical = json.dumps(self.deciding(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class RecipeInfo(NamedTuple):
    """What a list of recipes shows of one."""

    name: str
    description: str | None
    paper: str | None


def available_recipes() -> list[RecipeInfo]:
    """Return the recipes that come with the package, sorted by name.

    Raises:
        ValueError: One of the files is no YAML mapping.
    """
    found = []
    for name, file in _packaged().items():
        mapping = _read_mapping(file)
        found.append(RecipeInfo(name, mapping.get("description"), mapping.get("paper")))
    return found


def find_recipe(path: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe, given as a file or as the name of one that comes with the package.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    file = Path(path)
    if file.is_file():
        return file
    packaged = _packaged()
    name = file.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if name in packaged:
        return packaged[name]
    # A name's last part is near enough: `quickstart` hints at `parity/quickstart`.
    parts = {part: full for full in packaged for part in (full.rsplit("/", 1)[-1], full)}
    hint = f" Did you mean `{parts[name]}`?" if name in parts else did_you_mean(name, packaged)
    if (file / "recipe.yaml").is_file():
        hint = f" Did you mean `{file / 'recipe.yaml'}`, the recipe of the run in it?"
    problem = "is a folder" if file.is_dir() else "is neither a file nor the name of a recipe"
    raise ValueError(f"{path} {problem}.{hint} Recipes that come with hf_distill: {', '.join(packaged) or 'none'}.")


def _packaged() -> dict[str, Path]:
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data" / "recipes"
    folder = installed if installed.is_dir() else package.parent / "recipes"
    files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}
    return {name: file for name, file in files.items() if name.split("/")[0] not in _NO_RECIPES}


def _read_mapping(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}); a recipe is a YAML file.") from error
    value = load_yaml(text, source=str(file))
    if value is None:
        raise ValueError(f"{file} is empty; a recipe needs at least output_dir, task, student and curriculum.")
    if not isinstance(value, dict):
        raise ValueError(f"{file}: expected a mapping of keys to values at the top, got {given(value)}.")
    return value
