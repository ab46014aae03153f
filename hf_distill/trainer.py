"""ProgressiveDistillTrainer: transformers' Trainer whose loss compares the student with a sequence of teachers."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProgressCallback

from hf_distill.config import AtSwitch, ProgressiveDistillConfig
from hf_distill.distillation import Distillation
from hf_distill.hub.hub_training import HubCardCallback, HubTraining
from hf_distill.loss.loss_log import LossLog
from hf_distill.models.compatibility import head_of, unwrap_peft
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.as_teacher import as_teacher
from hf_distill.teachers.sharding import refuse_sharding
from hf_distill.training.distill_state import DistillState, resume_folder
from hf_distill.training.engine_checkpoint import check_launch, launch_of, saves_parts, separate_step_counts
from hf_distill.training.length_groups import repeatable
from hf_distill.training.loss_training import LossTraining
from hf_distill.training.progress import StageProgressCallback
from hf_distill.training.readout_training import ReadoutTraining
from hf_distill.training.revision_guard import RevisionGuard
from hf_distill.training.stage_best import copy_stage_best
from hf_distill.training.switching import CurriculumCallback, restarting_schedule

logger = logging.getLogger(__name__)


class ProgressiveDistillTrainer(HubTraining, LossTraining, ReadoutTraining):
    """A Trainer whose student learns from a sequence of its teacher's checkpoints, or from one teacher, or labels.

    Example:
        >>> trainer = ProgressiveDistillTrainer(
        ...     model=student,
        ...     teacher="org/bert-teacher@step*",
        ...     args=ProgressiveDistillConfig("out", curriculum={"name": "two_shot", "revision": "step8000"}),
        ...     train_dataset=train, eval_dataset=validation, processing_class=tokenizer,
        ... )  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP

    Args:
        model: The student: a transformers model that classifies texts, images or tokens, answers questions, or is a
            masked, causal or sequence-to-sequence language model; or a PEFT model around one.
        teacher: A teacher source, a loaded model, or what `TeacherSequence` takes (an id, a folder, a list). None for
            the `labels` curriculum.
        args: `ProgressiveDistillConfig`.
        **kwargs: Everything else that `transformers.Trainer` takes.

    Raises:
        ValueError: Student, teacher, data and curriculum do not fit together; the message says what to change.
    """

    lr_scheduler: Any

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        teacher: TeacherSource | PreTrainedModel | str | Path | list[str] | None = None,
        args: ProgressiveDistillConfig | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else ProgressiveDistillConfig()
        train_dataset = kwargs.get("train_dataset")
        if isinstance(train_dataset, Sized) and not len(train_dataset):
            raise ValueError("the training data set is empty; check the split, the filters and the block length")
        super().__init__(model=model, args=args, **kwargs)
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs in one process would use DataParallel, which splits batches behind the loss's "
                "back; start with `accelerate launch` or `torchrun`, or set CUDA_VISIBLE_DEVICES to one GPU"
            )
        student = unwrap_peft(self.model)
        if teacher is not None and (teacher is self.model or teacher is student):
            raise ValueError(
                "student and teacher are one object, and freezing the teacher would freeze the student; pass a copy "
                "(copy.deepcopy) as the teacher"
            )
        self.distillation = Distillation(
            head=args.head or head_of(student),  # type: ignore[arg-type]
            curriculum=args.curriculum_spec(),
            teacher=as_teacher(teacher),
            accelerator=self.accelerator,
            student=self.model,
            label_smoothing=args.label_smoothing_factor,
        )
        if args.teacher_window:
            self.distillation.reader.ask_whole_windows(args.teacher_window_examples, self.accelerator)
        if self.distillation.curriculum.needs_evaluation and args.eval_strategy == "no":
            raise ValueError(
                f"the curriculum {args.curriculum_spec()['name']!r} goes by held-out metrics at its switches, "
                "but eval_strategy is 'no'; set eval_strategy and eval_steps, and pass an eval_dataset"
            )
        if self.distillation.curriculum.best_of_stage:
            because = "the best student of a stage is kept, and copied back at its end"
            refuse_sharding(self.accelerator, because, what="curriculum")
        tokenizer = self.processing_class if isinstance(self.processing_class, PreTrainedTokenizerBase) else None
        self.distillation.check_student(student.config, tokenizer)
        self._student_arguments = frozenset(inspect.signature(student.forward).parameters)
        self._resumed: DistillState | None = None
        self._seconds_before = 0.0
        self._started: float | None = None
        self._warned = False
        self.add_callback(CurriculumCallback(self))
        self.add_callback(HubCardCallback(self))
        self._guard = RevisionGuard(self.distillation)
        self.add_callback(self._guard)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(StageProgressCallback(lambda: self.distillation.stage_name(self.state.global_step)))

    @property
    def teacher(self) -> TeacherSource | None:
        """The teacher source; None with the `labels` curriculum."""
        return self.distillation.teacher

    @property
    def at_switch(self) -> AtSwitch:
        """What happens to optimizer and schedule at a switch; some curricula decide it themselves."""
        return "restart" if self.distillation.curriculum.best_of_stage else self.args.at_switch

    # ---- a run ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does; resuming also restores and checks the distillation state.

        Args:
            resume_from_checkpoint: A checkpoint folder, or True for the newest whole one in `output_dir`.
            **kwargs: As in `Trainer.train`.

        Raises:
            ValueError: The checkpoint is half-written or belongs to another curriculum or teacher.
            RevisionUnavailable: A revision could not be had; a checkpoint was saved before.
        """
        folder = resume_folder(resume_from_checkpoint, self.args.output_dir)
        self._resumed, self._seconds_before = None, 0.0
        if folder is not None:
            self._resumed = DistillState.load(folder)
            self._resumed.check_same_run(self.args.curriculum_spec(), self._manifest(), folder=folder)
            check_launch(self._resumed.launch, self.accelerator, folder)
            self._seconds_before = self._resumed.seconds
            self.distillation.chosen_revision = self._resumed.chosen
            self.load_readouts(folder, self._resumed.layers)
            if self.args.should_save:
                copy_stage_best(folder, self.args.output_dir)
        else:
            self.refuse_unlabelled_data()
        try:
            result = super().train(resume_from_checkpoint=str(folder) if folder is not None else None, **kwargs)
            self._guard.check(str(self.args.output_dir))
            return result
        finally:
            self._seconds_before, self._started = self.training_seconds, None
            if self.teacher is not None:
                self.teacher.close()

    def begin(self) -> None:
        """Lay out the stages and fetch the first teacher; called when training begins and max_steps is known.

        Raises:
            ValueError: The plan does not fit, or `auto` cannot be resolved.
        """
        self._started = time.perf_counter()
        distillation, resumed = self.distillation, self._resumed
        if resumed is not None:
            separate_step_counts(self.optimizer)
        distillation.start_log(LossLog(stalls=list(resumed.stalls) if resumed is not None else []))
        self._resolve_auto()
        distillation.begin(
            step=self.state.global_step,
            max_steps=self.state.max_steps,
            switches=resumed.switches if resumed is not None else None,
        )
        self.calibrate_readouts()

    def _resolve_auto(self) -> None:
        from hf_distill.analysis.revision_scores import choose_revision

        if not self.distillation.curriculum.needs_scores or self.distillation.chosen_revision is not None:
            return
        if self.eval_dataset is None:
            raise ValueError("revision `auto` scores the teacher's revisions on held-out data; pass an eval_dataset")
        assert self.teacher is not None
        reader, batches = self.distillation.reader, self.get_eval_dataloader()
        self.distillation.chosen_revision = choose_revision(
            self.teacher, batches, head=reader.head, order=reader.label_order
        )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Set up the learning-rate schedule: one through all stages, or one a stage with `at_switch: restart`."""
        if self.at_switch != "restart" or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self._resolve_auto()
        plan = self.distillation.make_plan(num_training_steps)
        self.lr_scheduler = restarting_schedule(self.args, optimizer or self.optimizer, plan, num_training_steps)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return repeatable(super()._get_train_sampler(train_dataset), seed=seed, epoch=lambda: self.state.epoch or 0.0)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Resumed from the checkpoint of the last step, the Trainer would take one step more before it stops.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    # ---- log and checkpoint ----

    @property
    def training_seconds(self) -> float:
        """Seconds spent in training so far, over all sessions of a resumed run."""
        running = time.perf_counter() - self._started if self._started is not None else 0.0
        return self._seconds_before + running

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does; training points also get the parts of the loss, weights and teacher."""
        if "loss" in logs and self.distillation.plan is not None:
            step = self.state.global_step
            logs.update(self.flush_parts())
            self._warn_if_passes_agree(logs)
            # The step just done decided the parts; global_step already counts it.
            logs.update(self.distillation.describe_step(max(step - 1, 0)))
        super().log(logs, start_time)

    def _warn_if_passes_agree(self, logs: dict[str, float]) -> None:
        # Rounding alone leaves some 1e-8 nats between equal passes.
        if not self._warned and abs(logs.get("objective/passes", 1.0)) < 1e-7:
            self._warned = True
            logger.warning(
                "all passes of the student agree, so intra-distillation does nothing: no dropout seems active. "
                "Set the student's dropout (hidden_dropout_prob, attention_dropout, lora_dropout, ...) above 0"
            )

    def _manifest(self) -> list[dict[str, Any]]:
        return self.teacher.manifest() if self.teacher is not None else []

    def distill_state(self) -> DistillState:
        """Return what a checkpoint must remember of this run."""
        plan, launch = self.distillation.plan, launch_of(self.accelerator)
        return DistillState(
            curriculum=self.args.curriculum_spec(),
            revisions=self._manifest(),
            switches=list(plan.switches) if plan is not None else [],
            chosen=self.distillation.chosen_revision,
            seconds=self.training_seconds,
            stalls=list(self.distillation.log.stalls),
            layers=self.distillation.found_layers,
            engine=launch.engine,
            processes=launch.processes,
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the student; a checkpoint also gets `distill_state.json`, before the file that makes it whole."""
        checkpoint = output_dir if _internal_call else None
        if checkpoint is None and saves_parts(self.accelerator):
            # Told to save checkpoints in parts, the Trainer would save nothing here.
            self._save(output_dir, state_dict=self.accelerator.get_state_dict(self.model))
        super().save_model(output_dir, _internal_call=_internal_call)
        if checkpoint is not None and self.args.should_save:
            self.distill_state().save(checkpoint)
            self.save_readouts(checkpoint)
            if self.distillation.curriculum.best_of_stage:
                copy_stage_best(self.args.output_dir, checkpoint)
