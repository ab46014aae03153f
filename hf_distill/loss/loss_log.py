"""What a step was made of: the parts of the loss and the time the teacher took, kept on the device until the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.training.peak_memory import peak_memory


@dataclass
class LossLog:
    """Sums since the last log; nothing leaves the device before `flush`.

    Attributes:
        step_seconds: Wall time of each optimizer step of this session, evaluations and saving left out.
        teacher_seconds: Time in teacher forwards in this session (CUDA: measured with events).
        parts: The sum of each part since the last log.
        part_steps: The optimizer steps that each part was computed in; one of weight 0 is not computed.
        tokens: Trained on in this session, on all ranks; up to the last log.
        stalls: Seconds waited at each change of the teacher's revision, in all sessions of a resumed run.
    """

    parts: dict[str, Tensor] = field(default_factory=dict)
    part_steps: dict[str, set[int]] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    teacher_seconds: float = 0.0
    tokens: int = 0
    stalls: list[float] = field(default_factory=list)
    _step_started: float = 0.0
    _logged_stalls: int = field(init=False)
    _logged_steps: int = 0
    _logged_teacher_seconds: float = 0.0
    _window_tokens: list[Tensor] = field(default_factory=list)
    _events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._logged_stalls = len(self.stalls)

    def add(self, name: str, value: Tensor, *, step: int) -> None:
        """Add one micro-batch's share of a part; the shares of an optimizer step sum to its mean."""
        value = value.detach()
        self.part_steps.setdefault(name, set()).add(step)
        self.parts[name] = self.parts[name] + value if name in self.parts else value

    def count_tokens(self, tokens: Tensor) -> None:
        """Add the tokens of an accumulation window on all ranks. Shapes: ()."""
        self._window_tokens.append(tokens.detach())

    def step_begins(self) -> None:
        """Start the clock of an optimizer step."""
        self._step_started = time.perf_counter()

    def step_ends(self) -> None:
        """Stop the clock of an optimizer step."""
        self.step_seconds.append(time.perf_counter() - self._step_started)

    def flush(self, accelerator: Accelerator) -> dict[str, float]:
        """Return each part's mean over its optimizer steps and all ranks, and what the steps cost; start anew.

        Where the teacher changed since the last time, `teacher/stall_seconds` tells how long training waited for it.
        """
        names = list(self.parts)
        means = [self.parts[name] / len(self.part_steps[name]) for name in names]
        values = torch.stack(means) if means else torch.zeros(0)
        if accelerator.num_processes > 1 and names:
            values = accelerator.reduce(values, reduction="mean")
        self.parts, self.part_steps = {}, {}
        self.collect()
        parts = dict(zip(names, values.tolist(), strict=True))
        stalls, self._logged_stalls = self.stalls[self._logged_stalls :], len(self.stalls)
        return parts | ({"teacher/stall_seconds": sum(stalls)} if stalls else {}) | self._speed(accelerator.device)

    def _speed(self, device: torch.device) -> dict[str, float]:
        """Return tokens a second on all ranks, the teacher's share of a step and the highest memory use so far."""
        tokens = int(torch.stack(self._window_tokens).sum()) if self._window_tokens else 0
        seconds = sum(self.step_seconds[self._logged_steps :])
        teacher = self.teacher_seconds - self._logged_teacher_seconds
        self.tokens += tokens
        self._window_tokens, self._logged_steps = [], len(self.step_seconds)
        self._logged_teacher_seconds = self.teacher_seconds
        if not seconds:
            return {}
        return {
            "speed/tokens_per_second": tokens / seconds,
            "speed/teacher_share": teacher / seconds,
            "speed/peak_memory_gb": peak_memory(device) / 1e9,
        }

    @contextmanager
    def teacher_timer(self, device: torch.device) -> Iterator[None]:
        """Time a teacher forward without making the device wait."""
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            stop.record()
            self._events.append((start, stop))
            return
        started = time.perf_counter()
        yield
        self.teacher_seconds += time.perf_counter() - started

    def collect(self) -> None:
        """Add up what teacher forwards have taken so far; on a GPU this waits for the last one."""
        for start, stop in self._events:
            stop.synchronize()
            self.teacher_seconds += start.elapsed_time(stop) / 1000.0
        self._events = []


def shares(counts: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """Return each count's share of their sum over all ranks, by name; 0 where nothing was counted."""
    if not counts:
        return {}
    totals = torch.stack([count.float() for count in counts.values()])
    if accelerator.num_processes > 1:
        totals = accelerator.reduce(totals.to(accelerator.device), reduction="sum")
    return dict(zip(counts, (totals / totals.sum().clamp(min=1)).tolist(), strict=True))
