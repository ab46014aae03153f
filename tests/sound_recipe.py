"""A recipe that nothing is wrong with."""

from __future__ import annotations

from typing import Any

MODEL = {"architecture": "parity_mlp", "config": {"width": 32}}
SOUND: dict[str, Any] = {
    "output_dir": "runs/x",
    "task": {"name": "parity"},
    "teacher": {"source": "org/teacher@step*"},
    "student": {"model": MODEL},
    "curriculum": {"name": "two_shot", "revision": "auto"},
}
