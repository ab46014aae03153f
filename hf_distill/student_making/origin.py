"""Where a student comes from: `student_origin.json` beside its weights says who the teacher was and what was kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_distill.strict_dataclass import from_mapping, to_mapping

ORIGIN_FILE = "student_origin.json"


@dataclass(kw_only=True)
class StudentOrigin:
    """Who a student was cut out of, and how.

    Attributes:
        schema: Of this file.
        teacher: A repository of the Hub, or a folder.
        revision: Of the repository; None for a folder.
        commit: That the revision stood for, or the hash of a folder's content; empty where nobody said.
        architecture: Class of both models.
        model_type: Of both.
        cut: What was asked for, as a recipe says it.
        layers: Layers that were kept, counted from 1, by stack.
        layers_before: How many the teacher has, by stack.
        widths: Name of a width to what it was and what it is.
        teacher_parameters: Shared ones once.
        parameters: The student's.
        data: What layers or units were chosen by, None where no data was looked at.
        versions: Of the packages that made it.
    """

    schema: int = 1
    teacher: str
    revision: str | None = None
    commit: str = ""
    architecture: str
    model_type: str
    cut: dict[str, Any]
    layers: dict[str, list[int]]
    layers_before: dict[str, int]
    widths: dict[str, list[int]] = field(default_factory=dict)
    teacher_parameters: int
    parameters: int
    data: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the origin as plain data."""
        return to_mapping(self)

    def describe(self) -> str:
        """Return one line for people: the kind of model, the layers kept, the widths cut."""
        parts = []
        for name, kept in self.layers.items():
            before, stack = self.layers_before[name], "" if name == "layers" else f"{name} "
            all_of = kept == list(range(1, before + 1))
            parts.append(f"all {before} {stack}layers" if all_of else f"{stack}layers {ranges(kept)} of {before}")
        for key, (before, now) in self.widths.items():
            if before != now:
                parts.append(f"{key.replace('_', ' ')} {now} of {before}")
        return f"{self.model_type} cut out of its teacher: {', '.join(parts)}"

    @classmethod
    def load(cls, folder: str | Path) -> StudentOrigin:
        """Read the origin of a student.

        Raises:
            ValueError: The folder holds none, or one that this version cannot read.
        """
        file = Path(folder) / ORIGIN_FILE
        if not file.is_file():
            raise ValueError(f"{folder} holds no {ORIGIN_FILE}: it is no student that was cut out of a teacher")
        try:
            return from_mapping(cls, json.loads(file.read_text(encoding="utf-8")), path=str(file))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is no JSON: {error}") from error


def ranges(numbers: list[int]) -> str:
    """Return rising numbers for people: "1–3, 6"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
