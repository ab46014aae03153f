"""The forwards of a step: what student and teacher say about a micro-batch, aligned for the objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.curricula import Stage, Term
from hf_distill.kernels import HeadRows, LogitRows
from hf_distill.loss.loss_log import LossLog
from hf_distill.loss.reduction import examples_are_tokens
from hf_distill.models.inputs import model_inputs
from hf_distill.models.label_maps import in_order, label_order
from hf_distill.reading.extractor import Extractor, LayerPair
from hf_distill.reading.features import Features
from hf_distill.reading.layer_states import Captured
from hf_distill.reading.layers import attended_rows, layer_tap
from hf_distill.reading.model_reading import Reading, Wanted, read_model
from hf_distill.reading.row_head import RowHead
from hf_distill.reading.signals import TARGET_KEYS, TOKEN_HEADS, Head, Rows, Signals, select_rows
from hf_distill.teachers import LadderTeacher, TeacherSource
from hf_distill.teachers.base import unwrapped
from hf_distill.training.teacher_window import TeacherWindow
from hf_distill.views import ModelOfView, View


class Student(NamedTuple):
    """The student as a loss needs it: its wrapper to call, the model inside to look into, what its forward accepts."""

    wrapper: torch.nn.Module
    inner: torch.nn.Module
    accepted: frozenset[str]

    def forward(self, inputs: Mapping[str, Any], **more: Any) -> Any:
        """Call the wrapper, so that DistributedDataParallel and its like do their part.

        Labels are left out: the model would compute a loss of its own to throw away.
        """
        given = {key: value for key, value in inputs.items() if key in self.accepted and key not in TARGET_KEYS}
        return self.wrapper(**given, **more)

    def read(self, inputs: Mapping[str, Any], wanted: Wanted) -> Reading:
        """Run one forward and keep what is wanted of it."""
        return read_model(
            lambda **more: self.forward(inputs, **more),
            self.inner,
            layers=wanted.student,
            attentions=wanted.attentions,
            mask=inputs.get("attention_mask"),
        )


class Pass(NamedTuple):
    """One forward of the student, and its logits of the rows that count.

    Shapes: `rows_RV` (R, V). Where `whole` is false, the reading's own logits are of one position.
    """

    reading: Reading
    rows_RV: Tensor
    whole: bool


class SignalReader:
    """Runs student and teacher on a micro-batch, as a stage needs them.

    Args:
        head: The student's kind of head.
        teacher: The teacher source, or None.
        log: Where the teacher's time is added up.
        device: Of both models.

    Attributes:
        student: Makes its decoder's input from labels, where it has a decoder.
        shared_width: Ids that both heads have, once student and teacher have been compared.
        extractor: Projections and read-outs of an extraction.
        features: Layers that terms compare beside the logits; None where they compare logits only.
        whole_logits: Compute the student's logits of all positions, also where only some rows count.
        sharded: An engine splits the student's head over ranks. It is whole inside of a forward, and again in the
            backward where the gradient comes through the forward's output: rows of logits must not be taken out of it,
            but a loss that is computed there, with its gradient, may.
        label_order: For each of the student's classes the number that the teacher gives it; None where they agree.
        window: Answers for the teacher where it is asked about several micro-batches at once.
    """

    def __init__(self, *, head: Head, teacher: TeacherSource | None, log: LossLog, device: torch.device) -> None:
        self.head = head
        self.teacher = teacher
        self.log = log
        self.device = device
        self.student: torch.nn.Module | None = None
        self.shared_width: int | None = None
        self.extractor: Extractor | None = None
        self.features: Features | None = None
        self.whole_logits = False
        self.sharded = False
        self.label_order: tuple[int, ...] | None = None
        self.window: TeacherWindow | None = None
        self._row_heads: WeakKeyDictionary[torch.nn.Module, RowHead] = WeakKeyDictionary()

    def ask_whole_windows(self, most_examples: int | None, accelerator: Accelerator) -> None:
        """Ask the teacher about all micro-batches of a step at once, in calls of at most so many examples."""
        if self.teacher is not None:
            self.window = TeacherWindow(
                head=self.head,
                teacher=self.teacher,
                most_examples=most_examples,
                accelerator=accelerator,
                positioned=self.positioned,
            )

    def compare_labels(self, student: PreTrainedConfig) -> None:
        """Find which of the teacher's classes is which of the student's.

        Raises:
            ValueError: Other classes, or another order for a teacher that goes by the labels itself.
        """
        assert self.teacher is not None
        self.label_order = label_order(self.head, student, self.teacher.config)
        if self.label_order is not None and isinstance(self.teacher, LadderTeacher):
            raise ValueError(
                "a ladder of teachers goes by the labels, but has the student's classes in another order; make the "
                "student with the teachers' id2label and label2id"
            )

    def open_window(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Say which micro-batches an optimizer step has, in their order."""
        if self.window is not None:
            self.window.open(batches)

    def next_micro_batch(self) -> None:
        """Say that the loss of the next micro-batch of the step is computed from now on."""
        if self.window is not None:
            self.window.turn()

    def positioned(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch as both models read it, with position ids or the decoder's input added (`model_inputs`)."""
        return model_inputs(self.head, inputs, self.student)

    def logits(
        self,
        student: Student,
        inputs: Mapping[str, Any],
        *,
        stage: Stage,
        needs_teacher: bool,
        terms: Sequence[Term] = (),
        view: View | None = None,
    ) -> tuple[list[Signals], Tensor | None]:
        """Return the signals of each pass of the student, and its logits where a pass gives them whole.

        A vocabulary head runs on the rows that count only, where it can be split off. The teacher runs once for all
        passes. What `terms` compare beside the logits comes from the same forwards. `view` is the one that `inputs`
        are: models may read it each in its own way.
        """
        wanted = self.features.wanted(terms) if self.features is not None else Wanted()
        batch, mask = self.positioned(inputs), inputs.get("attention_mask")
        rows = select_rows(self.head, inputs)
        passes = self._passes(student, batch, rows, stage, wanted, view)
        # Selected once: a copy for every pass would be of the size of the vocabulary.
        teacher, teacher_rows = self._teacher_rows(batch, rows, wanted, view) if needs_teacher else (None, None)
        teacher_rows = in_order(teacher_rows, self.label_order) if teacher_rows is not None else None
        selected = [one.rows_RV for one in passes]
        stacked = torch.stack(selected) if len(selected) > 1 else None
        signals = [
            Signals(
                student_logits=logits,
                labels=rows.labels_R,
                teacher_logits=teacher_rows,
                shared_width=self.shared_width,
                student_passes=stacked,
                captured=Captured(one.reading, teacher, mask) if teacher is not None and wanted.anything else None,
                examples=len(one.reading.logits) if examples_are_tokens(inputs) else None,
            )
            for one, logits in zip(passes, selected, strict=True)
        ]
        return signals, passes[0].reading.logits if passes[0].whole else None

    def view(self, signals: Signals, term: Term) -> Signals:
        """Return the signals as a term compares them: with its own layers and projectors."""
        return signals if self.features is None else self.features.view(signals, term)

    def student_reading(
        self, student: Student, batch: Mapping[str, Any], wanted: Wanted, view: View | None = None
    ) -> Reading:
        """Return what one forward of the student gives on a batch, or on a view of one."""
        if view is not None and view.per_model:
            batch = view.inputs_for(batch, ModelOfView("student", student.inner, student.accepted))
        return student.read(batch, wanted)

    def teacher_reading(self, batch: Mapping[str, Any], wanted: Wanted, view: View | None = None) -> Reading:
        """Return what one forward of the teacher gives on a batch, or on a view of one."""
        teacher = self.teacher
        assert teacher is not None
        with self.log.teacher_timer(self.device), torch.no_grad():
            if view is not None and view.per_model:
                batch = view.inputs_for(
                    batch, ModelOfView("teacher", unwrapped(teacher.model), teacher.forward_arguments)
                )
            if not wanted.anything:
                return Reading(teacher.logits(batch), {})
            return teacher.read(batch, layers=wanted.teacher, attentions=wanted.attentions)

    def _teacher_rows(
        self, batch: Mapping[str, Any], rows: Rows, wanted: Wanted, view: View | None
    ) -> tuple[Reading | None, Tensor | None]:
        """Return the teacher's logits of the rows that count, with its reading where more than logits is wanted."""
        if self.teacher is None:
            return None, None
        kept = self._kept(wanted, on_view=view is not None)
        if kept is not None and self.window is not None:
            return None, self.window.logits(kept)
        if wanted.anything or (view is not None and view.per_model):
            reading = self.teacher_reading(batch, wanted, view)
            return reading, rows.of(reading.logits)
        with self.log.teacher_timer(self.device):
            return None, self.teacher.row_logits(batch, rows)

    def row_head(self, student: Student) -> RowHead | None:
        """Return the student's head on rows; None where its logits have to be whole."""
        if self.head not in TOKEN_HEADS or self.whole_logits:
            return None
        if student.inner not in self._row_heads:
            self._row_heads[student.inner] = RowHead(student.inner)
        head = self._row_heads[student.inner]
        return head if head.problem is None else None

    def teacher_head_rows(self, batch: Mapping[str, Any], rows: Rows) -> HeadRows | LogitRows:
        """Return the teacher's rows that count, in front of its head where that can be split off."""
        assert self.teacher is not None
        kept = self._kept(Wanted())
        if kept is not None:
            return kept
        with self.log.teacher_timer(self.device):
            return self.teacher.head_rows(batch, rows)

    def _kept(self, wanted: Wanted, *, on_view: bool = False) -> HeadRows | LogitRows | None:
        return None if self.window is None else self.window.rows(wanted, on_view=on_view, log=self.log)

    def _pass(self, student: Student, batch: Mapping[str, Any], rows: Rows, wanted: Wanted, view: View | None) -> Pass:
        readings: list[Reading] = []

        def call() -> Reading:
            readings.append(self.student_reading(student, batch, wanted, view))
            return readings[-1]

        head = None if self.sharded else self.row_head(student)
        rows_RV = None
        if head is not None:
            rows_RV = head.read(call, lambda hidden, split: split.rows(rows.of(hidden)).logits())
        if rows_RV is not None:
            return Pass(readings[-1], rows_RV, whole=False)
        reading = call()
        return Pass(reading, rows.of(reading.logits), whole=True)

    def _passes(
        self,
        student: Student,
        batch: Mapping[str, Any],
        rows: Rows,
        stage: Stage,
        wanted: Wanted,
        view: View | None,
    ) -> list[Pass]:
        if stage.pass_mode == "loop" or stage.passes == 1:
            return [self._pass(student, batch, rows, wanted, view) for _ in range(stage.passes)]
        readings = self.student_reading(student, repeated(batch, stage.passes), wanted, view).chunk(stage.passes)
        return [Pass(one, rows.of(one.logits), whole=True) for one in readings]

    def hidden(self, student: Student, inputs: Mapping[str, Any], pair: LayerPair) -> list[Signals]:
        """Return the hidden states of one pair of layers; nothing behind them is computed."""
        assert self.teacher is not None and self.extractor is not None
        batch, mask = self.positioned(inputs), inputs.get("attention_mask")
        self._kept(Wanted((pair.student,), (pair.teacher,)))  # There is nothing: it says so, once.
        with layer_tap(student.inner, [pair.student], stop=True) as outputs:
            student.forward(batch)
        with self.log.teacher_timer(self.device):
            teacher = self.teacher.hidden_states(batch, [pair.teacher])[pair.teacher]
        return [
            Signals(
                student_hidden=self.extractor.predict(pair, attended_rows(outputs[pair.student], mask)),
                teacher_hidden=self.extractor.target(pair, attended_rows(teacher, mask)),
                examples=len(teacher) if examples_are_tokens(inputs) else None,
            )
        ]


def repeated(batch: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Return a batch several times, one behind the other. Shapes: (B, ...) -> (times · B, ...)."""
    return {
        key: value.repeat(times, *[1] * (value.dim() - 1)) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
