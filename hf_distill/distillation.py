"""A distillation: head, teacher, curriculum and loss of one run, without the training loop.

`ProgressiveDistillTrainer` hands it batches and steps; everything that decides a number is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.curricula import CURRICULA, Plan, PlanContext, Stage, Term
from hf_distill.curricula.base import label_terms
from hf_distill.curricula.intra import build_intra
from hf_distill.curricula.views import build_views, extend
from hf_distill.loss.loss import Loss
from hf_distill.loss.loss_log import LossLog
from hf_distill.loss.reduction import UNITS
from hf_distill.loss.step_loss import StepLoss
from hf_distill.models.compatibility import shared_width, unwrap_peft
from hf_distill.models.compiling import check_layers_are_seen, compile_student
from hf_distill.models.fsdp_layout import fit_for_fsdp
from hf_distill.reading.extractor import Extractor
from hf_distill.reading.features import Features, build_features
from hf_distill.reading.layers import check_early_exit, layer_count
from hf_distill.reading.signal_reader import SignalReader, Student
from hf_distill.reading.signals import Head
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.sharding import SHARDING
from hf_distill.views.reading import ViewReader


class Distillation:
    """What a student learns from, and the loss that says so.

    Args:
        head: The student's kind of head.
        curriculum: The curriculum's specification, `{"name": ..., **fields}`.
        teacher: The teacher source; None for the `labels` curriculum.
        accelerator: Places the teacher and adds up counts over ranks.
        student: For teachers that are made of it, for its decoder's input, and for engines that will split it.
        label_smoothing: Of the cross-entropy with labels.

    Raises:
        ValueError: Curriculum and teacher do not fit together.
    """

    def __init__(
        self,
        *,
        head: Head,
        curriculum: Mapping[str, Any],
        teacher: TeacherSource | None,
        accelerator: Accelerator,
        student: torch.nn.Module | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        if student is not None:
            fit_for_fsdp(student, accelerator)
        self.head = head
        self.accelerator = accelerator
        # Before the teacher is placed: what accelerate has been asked to compile is the student only.
        self._compiled = student is not None and compile_student(unwrap_peft(student), accelerator)
        self.curriculum = CURRICULA.build(curriculum, path="curriculum")
        self._intra = build_intra(self.curriculum.intra)
        self._views = build_views(self.curriculum, head)
        self.teacher = teacher if self.curriculum.uses_teacher else None
        self.label_smoothing = label_smoothing
        self.log = LossLog()
        self.chosen_revision: str | None = None
        self.plan: Plan | None = None
        self.max_steps = 1
        self.extractor: Extractor | None = None
        self.features: Features | None = None
        self.found_layers: list[list[int]] | None = None
        self.layer_counts = (0, 0)
        self.reader = SignalReader(head=head, teacher=self.teacher, log=self.log, device=accelerator.device)
        self.reader.sharded = accelerator.distributed_type in SHARDING
        # Megatron splits each layer, so that no rank ever has the head's whole weight.
        self.reader.whole_logits = accelerator.distributed_type == DistributedType.MEGATRON_LM
        self.view_reader = ViewReader(self.reader, self._views)
        self.loss = Loss(head=head, accelerator=accelerator, label_term=label_terms(self._context(1))[0])
        self.step_loss = StepLoss(self.reader, self.view_reader, self.loss)
        self.reader.student = student
        self._check_teacher(curriculum["name"], student)

    def _check_teacher(self, name: str, student: torch.nn.Module | None) -> None:
        if not self.curriculum.uses_teacher:
            return
        if self.teacher is None:
            raise ValueError(f"the curriculum {name!r} learns from a teacher; pass `teacher`, or use 'labels'")
        needs = self.curriculum.needs(self._context(1)).union(*(one.view.needs for one in self._views))
        if self._compiled:
            check_layers_are_seen(needs)
        lacking = {need for need in needs if need.startswith("teacher.")} - self.teacher.provides
        if lacking:
            raise ValueError(
                f"the objectives and views need {sorted(lacking)}, but {type(self.teacher).__name__} provides only "
                f"{sorted(self.teacher.provides)}"
            )
        if student is not None:
            self.teacher.attach_student(student)
        self.teacher.attach(head=self.head, accelerator=self.accelerator)
        if "teacher.attentions" in needs:
            self.teacher.give_attentions()

    def check_student(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> None:
        """Refuse a student that cannot be compared with the teacher, and find the ids that both heads have.

        Raises:
            ValueError: Labels, tokenizers or vocabularies differ.
        """
        if self.teacher is None:
            return
        self.reader.shared_width = shared_width(
            self.head,
            config,
            self.teacher.config,
            student_tokenizer=tokenizer,
            teacher_tokenizer=self.teacher.tokenizer,
        )
        self.reader.compare_labels(config)
        self.view_reader.check_models(config, self.teacher.config, tokenizer, self.accelerator)
        terms = self.curriculum.teacher_terms(self._context(1))
        self.features = self.reader.features = build_features(terms, config, self.teacher.config, self.accelerator)
        self._build_extractor(config)

    def _build_extractor(self, student: PreTrainedConfig) -> None:
        assert self.teacher is not None
        extractor = self.curriculum.build_extractor(student, self.teacher.config)
        if extractor is not None:
            check_early_exit(self.accelerator)
            self.layer_counts = (layer_count(student), layer_count(self.teacher.config))
            self.extractor = self.reader.extractor = extractor.to(self.accelerator.device)

    def use_layers(self, pairs: list[list[int]], student: PreTrainedConfig) -> None:
        """Take the layer map that was found by comparing the models, in this session or before a run was resumed."""
        self.found_layers, self.curriculum = pairs, self.curriculum.with_layers(pairs)
        self._build_extractor(student)

    def _context(self, max_steps: int) -> PlanContext:
        return PlanContext(
            head=self.head,
            max_steps=max_steps,
            revisions=self.teacher.revisions if self.teacher is not None else (),
            label_smoothing=self.label_smoothing,
            student_layers=self.layer_counts[0],
            teacher_layers=self.layer_counts[1],
        )

    def make_plan(self, max_steps: int) -> Plan:
        """Lay out the stages over `max_steps` optimizer steps; `auto` must have been resolved.

        Raises:
            ValueError: The run or the teacher's revisions cannot carry the curriculum.
        """
        curriculum = self.curriculum
        if curriculum.needs_scores and self.chosen_revision is not None:
            curriculum = curriculum.with_chosen(self.chosen_revision)
        plan = curriculum.plan(self._context(max_steps))
        plan.stages = tuple(extend(stage, self._views) for stage in plan.stages)
        if self._intra is not None:
            plan.stages = tuple(self._intra.extend(stage, self.head) for stage in plan.stages)
        return plan

    def start_log(self, log: LossLog) -> None:
        """Add up parts and times in `log` from now on."""
        self.log = self.reader.log = log

    def begin(self, *, step: int, max_steps: int, switches: Sequence[int] | None = None) -> None:
        """Lay out the stages and fetch the teacher of `step`.

        Args:
            step: First optimizer step of this session.
            max_steps: Optimizer steps of the run.
            switches: Of a resumed run, those in its checkpoint.

        Raises:
            ValueError: The plan does not fit, or is not that of the run that is resumed.
        """
        if self.teacher is not None and self.teacher.near_transition is not None:
            raise ValueError(
                "near_transition chooses among the teacher's revisions by their scores: use it in a recipe, or score "
                "them with `score_revisions` and pass `teacher.narrow(...)` those of `near_transition`"
            )
        self.max_steps = max(max_steps, 1)
        self.plan = self.make_plan(max_steps)
        self.view_reader.begin(step)
        if switches is not None:
            self.plan.resume(switches, step)
        elif self.teacher is not None:
            self.teacher.restart()
        self.enter_stage(step)
        self._read_ahead(step)

    def stage_at(self, step: int) -> Stage:
        """Return the stage of an optimizer step.

        Raises:
            ValueError: `begin` has not been called.
        """
        if self.plan is None:
            raise ValueError("the stages are laid out when training begins; call train() first")
        return self.plan.stage_at(step)

    def stage_name(self, step: int) -> str:
        """Return the stage of a step for people: its name and the teacher's revision."""
        stage = self.stage_at(step)
        if self.teacher is None or stage.revision is None:
            return stage.name
        revision = self.teacher.revisions[stage.revision].name
        return revision if revision == stage.name else f"{stage.name} ({revision})"

    def enter_stage(self, step: int) -> None:
        """Make the revision of the step's stage the teacher and start reading the next one."""
        stage = self.stage_at(step)
        if self.teacher is None or stage.revision is None:
            return
        self.teacher.at(step / self.max_steps)
        stall = self.teacher.enter(stage.revision)
        if stall:
            self.log.stalls.append(stall)
            self._read_ahead(step)

    def is_switch(self, step: int) -> bool:
        """Whether a step is the first one of a stage."""
        return self.plan is not None and step in self.plan.switches

    def prepare(self, step: int) -> None:
        """Wait until the teacher of a coming step can be entered.

        Raises:
            RevisionUnavailable: It cannot be had.
        """
        stage = self.stage_at(step)
        if self.teacher is not None and stage.revision is not None:
            self.teacher.prepare(stage.revision)

    def _read_ahead(self, step: int) -> None:
        assert self.plan is not None
        if self.teacher is None:
            return
        coming = self.plan.stages[self.plan.index_at(step) :]
        self.teacher.need({stage.revision for stage in coming if stage.revision is not None})
        following = self.plan.next_revision(step)
        if following is not None:
            self.teacher.read_ahead(following)

    def describe_step(self, step: int) -> dict[str, float]:
        """Return stage, teacher step, weights and temperatures of a step, under the names of the log."""
        assert self.plan is not None
        described = self.plan.describe(step, step / self.max_steps)
        stage = self.plan.stage_at(step)
        if self.teacher is not None and stage.revision is not None:
            revision = self.teacher.revisions[stage.revision]
            described["teacher/revision"] = float(stage.revision)
            if revision.step is not None:
                described["teacher/step"] = float(revision.step)
        return described

    # ---- the loss ----

    def count_window(self, batches: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        """Count the items of an accumulation window on all ranks, for the loss and for the log."""
        self.reader.open_window(batches)
        counts = self.loss.count_window(batches, device)
        self.log.count_tokens(counts[UNITS.index("token")])

    def live_terms(self, step: int) -> list[Term]:
        """Return the terms that a step computes: one of weight 0 is not computed, and no teacher runs for it."""
        terms = self.stage_at(step).terms
        return [term for term in terms if term.weight_at(step / self.max_steps)] or list(terms)

    def training_loss(
        self, student: Student, inputs: Mapping[str, Any], *, step: int, scale: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return a micro-batch's share of Σ weight · objective over the window, and the student's logits.

        Args:
            student: The student in its wrapper.
            inputs: The micro-batch.
            step: Optimizer step.
            scale: Number of ranks over which gradients are averaged; the denominators count the items of all.

        Returns:
            The loss, and the logits (B, classes) or (B, T, V) where they were computed whole.

        Raises:
            ValueError: The batch lacks what an objective needs.
        """
        stage = self.stage_at(step)
        self.enter_stage(step)
        self.reader.next_micro_batch()
        live, progress = self.live_terms(step), step / self.max_steps
        return self.step_loss(student, inputs, stage, live, progress=progress, step=step, scale=scale)
