"""Training of an extraction's read-outs and of projectors beside the student, with transformers' Trainer.

They are no part of the student: they have a parameter group of their own (an optimizer of their own where an engine
splits the student), are averaged over ranks, clipped together with the student, saved in checkpoints, and absent from
what is exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import DistributedType
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from transformers import Trainer

from hf_distill.distillation import Distillation
from hf_distill.loss.loss_log import shares
from hf_distill.loss.reduction import count_items
from hf_distill.models.checkpointed_module import CheckpointedModule
from hf_distill.models.compatibility import unwrap_peft
from hf_distill.reading.layers import attended_rows, layer_tap
from hf_distill.reading.signal_reader import Student
from hf_distill.teachers.sharding import SHARDING
from hf_distill.training.beside_optimizer import BesideOptimizer, clip_together
from hf_distill.training.joint_clipping import JointClipping

LOOK_FOR_LABELS_IN = 256
"""Training examples that are looked through for a label before training."""


class ReadoutTraining(Trainer):
    """A Trainer that has a `distillation` and trains its read-outs and projectors, where it has any."""

    distillation: Distillation
    _student_arguments: frozenset[str]
    _joint_clipping: JointClipping | None = None

    def readout_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of read-outs and projectors; mostly there are none."""
        return [parameter for parameters, _ in self._readout_groups() for parameter in parameters]

    def _readout_groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """Return what is trained beside the student, each with its learning rate ÷ the student's."""
        extractor, features = self.distillation.extractor, self.distillation.features
        groups = []
        if extractor is not None:
            groups.append((list(extractor.parameters()), extractor.readout_rate))
        if features is not None:
            groups.append((list(features.parameters()), 1.0))
        return [group for group in groups if group[0]]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the Trainer's optimizer, with parameter groups for read-outs and projectors.

        Raises:
            ValueError: An optimizer was passed in, which knows nothing of the read-outs.
        """
        self.find_layer_map()
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if self._beside is not None:
            return optimizer
        for parameters, rate in self._readout_groups() if fresh else []:
            learning_rate = self.args.learning_rate * rate
            optimizer.add_param_group({"params": parameters, "lr": learning_rate, "weight_decay": 0.0})
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not all(id(parameter) in known for parameter in self.readout_parameters()):
            raise ValueError(
                "the optimizer passed to the trainer does not train the extraction's read-outs or projectors; choose "
                "it with `optim` or `optimizer_cls_and_kwargs` instead of `optimizers`, or set `readout: false` "
                "and `projector: none`"
            )
        return optimizer

    @cached_property
    def _beside(self) -> BesideOptimizer | None:
        """The optimizer of read-outs and projectors where the student's is rebuilt by the engine that splits it."""
        groups = self._readout_groups()
        if not groups or self.accelerator.distributed_type not in SHARDING:
            return None
        kind, settings = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(self.args, self.model)
        return BesideOptimizer(groups, kind, settings)

    def step_beside(self) -> None:
        """Step what has an optimizer of its own, as the student is stepped now, if it is."""
        if self._beside is not None and (self._joint_clipping is None or self._joint_clipping.stepped):
            self._beside.step(self._get_learning_rate())

    def forget_beside(self) -> None:
        """Forget the state of what has an optimizer of its own."""
        if self._beside is not None:
            self._beside.forget()

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take a training step; at the end of an accumulation window average the read-outs' gradients over ranks."""
        if self._joint_clipping is not None:
            self._joint_clipping.open()
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients and self._joint_clipping is None:
            self._averaged_gradients()
        return loss

    def _averaged_gradients(self) -> list[Tensor]:
        """Average the gradients of read-outs and projectors over ranks; return them."""
        parameters = [parameter for parameter in self.readout_parameters() if parameter.grad is not None]
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def join_clipping(self) -> None:
        """Let DeepSpeed, which steps the student inside of its backward, clip by the norm of all; before training."""
        if self._joint_clipping is not None:
            self._joint_clipping.remove()
        self._joint_clipping, engine = None, self.model_wrapped
        deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        if deepspeed and self._beside is not None and engine.zero_optimization():
            self._joint_clipping = JointClipping(engine, self._averaged_gradients)

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        parameters, most = self.readout_parameters(), self.args.max_grad_norm
        if not parameters:
            return super()._clip_grad_norm(model)
        if self._joint_clipping is not None:
            return math.hypot(super()._clip_grad_norm(model), self._joint_clipping.beside)
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            # Without ZeRO it has clipped and stepped the student, and tells no norm.
            torch.nn.utils.clip_grad_norm_(parameters, most)
            return super()._clip_grad_norm(model)
        if self._beside is not None:
            return clip_together(list(model.parameters()), parameters, most)
        return self.accelerator.clip_grad_norm_([*model.parameters(), *parameters], most)

    # ---- what is measured on training examples before the first step ----

    def calibrate_readouts(self) -> None:
        """Measure on the first training examples, the same on every rank, what read-outs and teacher must know."""
        extractor = self.distillation.extractor
        if extractor is not None and not extractor.calibrated:
            with self._calibration_batches(extractor.calibration_examples) as batches:
                extractor.calibrate(self._teacher_rows(batch, extractor.teacher_layers) for batch in batches)
            self.distillation.enter_stage(self.state.global_step)
        teacher = self.distillation.teacher
        if teacher is not None and teacher.calibration_examples:
            with self._calibration_batches(teacher.calibration_examples) as batches:
                teacher.calibrate(self.distillation.reader.positioned(batch) for batch in batches)

    def _teacher_rows(self, batch: dict[str, Any], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return what the final teacher says of a batch. Shapes: (N, H) by layer."""
        teacher = self.distillation.teacher
        assert teacher is not None
        teacher.enter(len(teacher.revisions) - 1)
        states = teacher.hidden_states(self.distillation.reader.positioned(batch), layers)
        return {layer: attended_rows(states[layer], batch.get("attention_mask")) for layer in layers}

    def find_layer_map(self) -> None:
        """Find the map of `layers: cka`, unless it is known: the models are compared as they are before training."""
        extractor = self.distillation.extractor
        if extractor is not None and self.distillation.curriculum.needs_layer_map:
            found = [[list(pair) for pair in self._most_similar_layers(extractor.calibration_examples)]]
            # A rank's student is its own until DistributedDataParallel wraps it.
            self.distillation.use_layers(broadcast_object_list(found)[0], unwrap_peft(self.model).config)

    def _most_similar_layers(self, examples: int) -> list[tuple[int, int]]:
        from hf_distill.analysis.layer_similarity import LayerSimilarityTally

        model, tally = self.model, LayerSimilarityTally()
        student = Student(model, model, self._student_arguments)
        ours, theirs = (range(1, count + 1) for count in self.distillation.layer_counts)
        model.eval()
        with self._calibration_batches(examples) as batches, torch.no_grad(), layer_tap(model, ours, stop=True) as own:
            for batch in batches:
                student.forward(self.distillation.reader.positioned(batch))
                rows = [attended_rows(own[layer], batch.get("attention_mask")) for layer in ours]
                tally.add(rows, list(self._teacher_rows(batch, theirs).values()))
        return tally.info().monotone_map()

    @contextmanager
    def _calibration_batches(
        self, count: int, *, of: Literal["the first", "all"] = "the first"
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Give examples, neither shuffled nor sharded, without moving the random state of training.

        Args:
            count: How many at most.
            of: The first ones, or so many spread evenly over all; of a stream, whose end is not known, the first.
        """
        data: Any = self.train_dataset
        with torch.random.fork_rng(devices=[]):
            # What stream and collator draw is the same on every rank, whatever was drawn before.
            torch.default_generator.manual_seed(self.args.seed)
            examples, sized = data, isinstance(data, Sized)
            if sized:
                count = min(count, len(data))
                spread = [place * len(data) // count for place in range(count)]
                examples = Subset(data, spread if of == "all" else range(count))
            else:
                examples = list(islice(iter(data), count))
            loader = DataLoader(
                examples,
                batch_size=self.args.per_device_eval_batch_size,
                collate_fn=self._get_collator_with_removed_columns(self.data_collator, description="training"),
                generator=torch.Generator(),
            )
            yield (self._prepare_inputs(batch) for batch in loader)

    def refuse_unlabelled_data(self) -> None:
        """Refuse a training set of which not one of some hundred examples has a labelled item, before any training.

        Raises:
            ValueError: There is none among examples spread over the set, or among the first of a stream, or no set.
        """
        if self.train_dataset is None:
            raise ValueError("training needs examples; pass a train_dataset to the trainer")
        head = self.distillation.head
        sized = isinstance(self.train_dataset, Sized)
        with self._calibration_batches(LOOK_FOR_LABELS_IN, of="all") as batches:
            if not any(bool(count_items([batch], head)[0]) for batch in batches):
                looked = "examples spread over the training data" if sized else "first training examples"
                raise ValueError(
                    f"up to {LOOK_FOR_LABELS_IN} {looked} have not one labelled item (every label is -100), so there "
                    "is nothing to learn from; check the collator, its mask rate and the labels"
                )

    # ---- log and checkpoints ----

    def flush_parts(self) -> dict[str, float]:
        """Return the parts of the loss since the last log, and which share of the examples each expert answered."""
        teacher = self.distillation.teacher
        usage = teacher.drain_usage() if teacher is not None else {}
        return self.distillation.log.flush(self.accelerator) | shares(usage, self.accelerator)

    def _checkpointed(self) -> list[CheckpointedModule]:
        distillation, teacher = self.distillation, self.distillation.teacher
        modules = (distillation.extractor, distillation.features, teacher.state if teacher is not None else None)
        return [module for module in modules if module is not None]

    def save_readouts(self, folder: str | Path) -> None:
        """Write read-outs and what the teacher must remember into a checkpoint, where there are any."""
        for module in self._checkpointed():
            module.save(folder)
        if self._beside is not None:
            self._beside.save(folder)

    def load_readouts(self, folder: str | Path, layers: list[list[int]] | None = None) -> None:
        """Read what `save_readouts` wrote into a checkpoint.

        Args:
            folder: The checkpoint.
            layers: The layer map that the run had found.
        """
        if layers is not None:
            self.distillation.use_layers(layers, unwrap_peft(self.model).config)
        for module in self._checkpointed():
            module.load(folder)
        if self._beside is not None:
            self._beside.load(folder)
