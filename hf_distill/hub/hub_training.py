"""The part of the trainer that faces the Hub: our card and record in every push, the branch that pushes go to.

All values of `hub_strategy` push what lies in `output_dir`: "end" and "every_save" the student, "checkpoint" and
"all_checkpoints" also whole checkpoints to resume from, with optimizer and readouts; a teacher is never among it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from hf_distill.trainer import ProgressiveDistillTrainer

logger = logging.getLogger(__name__)


class HubTraining(Trainer):
    """Trainer whose repository on the Hub says who taught whom."""

    distillation: Any

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, and the branch of `hub_revision`, which the Trainer pushes to without making it."""
        from hf_distill.hub.hub_writer import make_branch

        super().init_hf_repo(token=token, private=private)
        if self.args.hub_revision is not None and self.is_world_process_zero():
            make_branch(self.hub_model_id, self.args.hub_revision, token=token or self.args.hub_token)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write our card as README.md into `output_dir`; before any training transformers' own.

        Args:
            language: ISO 639 code.
            license: Id of a license of the Hub.
            tags: More tags than the card's own.
            **kwargs: As in `Trainer.create_model_card`; `model_name`, `finetuned_from` and `dataset_tags` are used,
                what the record says about task and data is not overridden.

        Raises:
            TypeError: An argument that `Trainer.create_model_card` does not take.
        """
        from hf_distill.hub.trainer_card import check_card_arguments, save_trainer_card

        check_card_arguments(kwargs)
        if self.distillation.plan is None:
            super().create_model_card(language=language, license=license, tags=tags, **kwargs)
        elif self.is_world_process_zero():
            save_trainer_card(
                self,
                language=language,
                license=license,
                tags=_listed(tags),
                model_name=kwargs.get("model_name"),
                pretrained=kwargs.get("finetuned_from"),
                datasets=_listed(kwargs.get("dataset_tags")),
            )


class HubCardCallback(TrainerCallback):
    """Writes card and record into `output_dir` before each push, and the record at the end of training."""

    def __init__(self, trainer: ProgressiveDistillTrainer) -> None:
        self.trainer = trainer

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Bring card and record up to the step that is pushed."""
        from hf_distill.hub.trainer_card import save_trainer_card, save_trainer_record

        if self.trainer.distillation.plan is not None and state.is_world_process_zero:
            save_trainer_card(self.trainer)
            save_trainer_record(self.trainer)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave run_record.json in `output_dir`; a full disk must not cost the training."""
        from hf_distill.hub.trainer_card import save_trainer_record

        if not state.is_world_process_zero:
            return
        try:
            save_trainer_record(self.trainer, ended=True)
        except OSError as error:
            logger.warning("run_record.json could not be written: %s", error)


def _listed(words: str | list[str] | None) -> list[str]:
    return [words] if isinstance(words, str) else list(words or [])
