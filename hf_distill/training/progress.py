"""A progress bar that says the stage, the revision and the parts of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments


class StageProgressCallback(ProgressCallback):
    """transformers' progress bar with the stage in front and the last logged parts of the loss behind.

    Args:
        stage_name: Returns what to show in front, for the step that begins.
    """

    def __init__(self, stage_name: Callable[[], str]) -> None:
        super().__init__()
        self.stage_name = stage_name
        self._shown = ""
        self._postfix: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open a new bar, which shows nothing of an earlier training."""
        self._shown, self._postfix = "", {}
        super().on_train_begin(args, state, control, **kwargs)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the stage's name in front of the bar where it has changed."""
        if self.training_bar is not None and (name := self.stage_name()) != self._shown:
            self._shown = name
            self.training_bar.set_description(name)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show a bar for an evaluation of its own, none inside training."""
        if self.training_bar is None:
            super().on_prediction_step(args, state, control, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show loss parts and held-out metrics behind the bar, without a line for each."""
        if self.training_bar is None or not logs:
            return
        for key, value in logs.items():
            held_out = key.startswith("eval_") and not key.endswith(("runtime", "_per_second", "preparation_time"))
            if held_out or key.startswith("objective/") or key == "loss":
                self._postfix[key.removeprefix("objective/")] = f"{value:.4g}"
        self.training_bar.set_postfix(self._postfix, refresh=False)
