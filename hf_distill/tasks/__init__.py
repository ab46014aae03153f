"""Tasks: one file each, registered by the name a recipe uses."""

from __future__ import annotations

from hf_distill.tasks.base import TASKS, Task, TaskData
from hf_distill.tasks.parity import Parity
from hf_distill.tasks.parity_model import ParityMlpConfig, ParityMlpForSequenceClassification

__all__ = ["TASKS", "Parity", "ParityMlpConfig", "ParityMlpForSequenceClassification", "Task", "TaskData"]
