"""The JSON that an evaluation leaves: what was measured of each model, under which settings and where."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_distill.atomic import atomic_write_json
from hf_distill.strict_dataclass import from_mapping

SCHEMA = 1
FILE_NAME = "evaluation.json"
CSV_NAME = "evaluation.csv"
MARKDOWN_NAME = "evaluation.md"

Role = Literal["teacher", "student", "baseline"]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How models are timed.

    Attributes:
        batch_sizes: Examples of a batch; latency and throughput are measured for each.
        length: Tokens of every example; None: as the first held-out examples come.
        repeats: Forwards that count.
        warmup: Forwards before them that do not.

    Raises:
        ValueError: A number below 1.
    """

    batch_sizes: tuple[int, ...] = (1, 16)
    length: int | None = None
    repeats: int = 20
    warmup: int = 3

    def __post_init__(self) -> None:
        numbers = [*(("batch_sizes", size) for size in self.batch_sizes), ("repeats", self.repeats)]
        numbers += [("length", self.length)] if self.length is not None else []
        for name, value in numbers:
            if value < 1:
                raise ValueError(f"{name}: expected a whole number from 1 on, got {value}")
        if not self.batch_sizes or len(set(self.batch_sizes)) < len(self.batch_sizes) or self.warmup < 0:
            raise ValueError(
                f"batch_sizes: expected different sizes, at least one, got {list(self.batch_sizes)}; warmup from 0 on"
            )


@dataclass(kw_only=True)
class Timing:
    """Forwards of one batch. Models of one shape take equally long, so that one of them was timed for all.

    Seconds are the median, the smallest and largest, and the first and third quartile over `repeats`; `length` is the
    tokens of an example, None where examples have none.
    """

    shape: str
    model: str
    batch_size: int
    length: int | None
    median_seconds: float
    low_seconds: float
    high_seconds: float
    quartile_seconds: tuple[float, float]
    repeats: int

    @property
    def examples_per_second(self) -> float:
        """Throughput of such batches, one after the other."""
        return self.batch_size / self.median_seconds


@dataclass(kw_only=True)
class ModelResult:
    """One model.

    `metrics` are the task's on all held-out data. `fidelity` compares it with the reference row by row at temperature
    1: `agreement`, `forward_kl` and `reverse_kl` in nats, or `squared_error` for regression heads. `calibration` holds
    the expected calibration `error`, `accuracy` and mean `confidence`. What does not apply is None. `lm_eval` holds
    metrics of lm-eval's tasks. `commit` pins the weights, `shape` the architecture.
    """

    key: str
    name: str
    role: Role
    curriculum: str | None = None
    seed: int | None = None
    commit: str
    shape: str | None = None
    parameters: int
    weight_bytes: int
    metrics: Mapping[str, int | float | None]
    fidelity: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    lm_eval: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Evaluation:
    """Everything measured of a run's models.

    `reference` is whom fidelity compares with (`name`, `commit`), empty where the run has no teacher of its own.
    `data` is the fingerprint of the data; `environment` says where the timings were made; `harness` is the version of
    lm-eval and the `limit` it was asked with.
    """

    schema: int = SCHEMA
    run: str
    task: dict[str, Any]
    data: str
    reference: dict[str, str] = field(default_factory=dict)
    settings: EvaluationSettings
    environment: dict[str, Any]
    models: list[ModelResult] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    harness: dict[str, Any] = field(default_factory=dict)

    def find(self, key: str) -> ModelResult | None:
        """Return what was measured of the model of this key."""
        return next((model for model in self.models if model.key == key), None)

    def timings_of(self, model: ModelResult) -> list[Timing]:
        """Return the timings of a model's shape, by batch size."""
        found = [timing for timing in self.timings if model.shape is not None and timing.shape == model.shape]
        return sorted(found, key=lambda timing: timing.batch_size)

    def save(self, folder: str | Path) -> Path:
        """Write `evaluation.json` into the folder of the run, whole or not at all."""
        return atomic_write_json(Path(folder) / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation | None:
        """Read the evaluation of a run's folder; None where there is none.

        Raises:
            ValueError: It cannot be read, or another version wrote it.
        """
        file = Path(folder) / FILE_NAME
        if not file.is_file():
            return None
        try:
            mapping = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not readable JSON ({error}); remove it and evaluate again") from error
        if not isinstance(mapping, dict) or mapping.get("schema") != SCHEMA:
            raise ValueError(f"{file} was written by another version of hf_distill; remove it and evaluate again")
        return from_mapping(cls, mapping, path=str(file))

    def to_csv(self) -> str:
        """Return one row a model, numbers as they are; what is not known is empty."""
        rows = [self._flat(model) for model in self.models]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()

    def _flat(self, model: ModelResult) -> dict[str, Any]:
        groups_of = ("metrics", "fidelity", "calibration", "lm_eval")
        plain = {key: value for key, value in asdict(model).items() if key not in groups_of}
        groups = {"metric": model.metrics, "fidelity": model.fidelity or {}, "calibration": model.calibration or {}}
        for group, values in groups.items():
            plain |= {f"{group}/{key}": value for key, value in values.items()}
        for task, values in model.lm_eval.items():
            plain |= {f"lm_eval/{task}/{key}": value for key, value in values.items()}
        for timing in self.timings_of(model):
            at = f"{timing.batch_size}x{timing.length}" if timing.length is not None else str(timing.batch_size)
            plain |= {
                f"latency_seconds/{at}": timing.median_seconds,
                f"latency_seconds_low/{at}": timing.low_seconds,
                f"latency_seconds_first_quartile/{at}": timing.quartile_seconds[0],
                f"latency_seconds_third_quartile/{at}": timing.quartile_seconds[1],
                f"latency_seconds_high/{at}": timing.high_seconds,
                f"examples_per_second/{at}": timing.examples_per_second,
            }
        return plain
