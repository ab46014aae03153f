"""Students that are trained as a LoRA adapter: wrapped before training, then merged into their base or saved alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel

from hf_distill.recipe.recipe import StudentSpec
from hf_distill.recipe.student_checks import adapter_export
from hf_distill.strict_dataclass import check_known_keys
from hf_distill.teachers.quantization import build_quantization
from hf_distill.teachers.sharding import whole_numel
from hf_distill.trainer import ProgressiveDistillTrainer

ADAPTER_FOLDER = "adapter"
"""Beside the merged student: in its own folder transformers would put the adapter on a second time."""
QUANTIZATION = "student.quantization"
_NOT_HERE = ("task_type", "inference_mode", "peft_type", "auto_mapping", "base_model_name_or_path", "revision")


def check_adapter(student: StudentSpec, *, on_cpu: bool = False) -> None:
    """Refuse what is no key of `peft.LoraConfig` or follows from the student, and a quantisation that cannot be had.

    Args:
        student: The recipe's student.
        on_cpu: Whether the recipe asks for the CPU.

    Raises:
        ValueError: Such a key; or bitsandbytes, or the device that it trains on, is missing.
    """
    known = [field.name for field in dataclasses.fields(LoraConfig) if field.init and field.name not in _NOT_HERE]
    check_known_keys(student.lora or {}, known, path="student.lora")
    build_quantization(student.quantization, path=QUANTIZATION)
    if student.quantization is not None and (on_cpu or not torch.accelerator.is_available()):
        # Its forward in eval mode packs the weights anew, and no later forward of a training can read them.
        raise ValueError(
            f"{QUANTIZATION}: bitsandbytes cannot train and evaluate in turn on a CPU; run this recipe where there is "
            "a GPU, or leave the quantisation out"
        )


def with_adapter(model: PreTrainedModel, student: StudentSpec) -> PeftModel:
    """Return the model with a fresh adapter, which alone is trained; its head too where `modules_to_save` names it.

    What a quantised base keeps in half precision is put into float32.

    Args:
        model: The base.
        student: With `lora`.

    Raises:
        ValueError: PEFT refuses a setting, or finds none of the modules.
    """
    if student.quantization is not None:
        # Activation checkpointing is the training arguments' to switch on.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        # Without a task type: a wrapper for sequences would ask an image model for token ids.
        return get_peft_model(model, LoraConfig(**(student.lora or {}), revision=student.model.get("revision")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"student.lora: {error}") from error


def refuse_new_weights(names: list[str]) -> None:
    """Refuse to export an adapter alone where its base has weights that nobody else has.

    Args:
        names: Weights of the base that were drawn anew, because what it was loaded from lacks them.

    Raises:
        ValueError: There are some.
    """
    if names:
        raise ValueError(
            f"student.export: the base lacks {', '.join(names[:3])}{', …' if len(names) > 3 else ''}, which would be "
            "new in every process that loads the adapter; export it `merged`, or give a base that is whole"
        )


def export(
    trainer: ProgressiveDistillTrainer, student: StudentSpec, *, base: Callable[[], PreTrainedModel] | None = None
) -> None:
    """Save the trained student: as it is, its adapter alone, or both merged with the adapter beside them.

    The trainer's student is merged in place: it is at its end.

    Args:
        trainer: After training.
        student: Says what is left.
        base: Loads the base with its full weights, into which the adapter of a quantised one is merged.
    """
    model: Any = trainer.model
    if not isinstance(model, PeftModel):
        trainer.save_model()
        return
    folder, writes = Path(str(trainer.args.output_dir)), trainer.is_world_process_zero()
    alone = adapter_export(student) == "adapter"
    if writes:
        model.save_pretrained(folder if alone else folder / ADAPTER_FOLDER)
    trainer.accelerator.wait_for_everyone()
    if not alone:
        if student.quantization is not None:
            assert base is not None
            # Merged into quantised weights, what was learned would be rounded to their steps.
            model = PeftModel.from_pretrained(base(), folder / ADAPTER_FOLDER)
        merged = model.merge_and_unload(safe_merge=True)
        if writes:
            merged.save_pretrained(folder)
    if writes and trainer.processing_class is not None:
        trainer.processing_class.save_pretrained(folder)


def sizes_of(model: Any) -> dict[str, Any]:
    """Return the number of a student's parameters, and of those that are trained where only an adapter is."""
    if not isinstance(model, PeftModel):
        return {"parameters": sum(map(whole_numel, model.parameters()))}
    trained, everything = model.get_nb_trainable_parameters()
    return {"parameters": everything - trained, "trained_parameters": trained}


def adapter_record(student: StudentSpec) -> dict[str, Any]:
    """Return what a record says of a student's adapter, nothing for a student without one."""
    if student.lora is None:
        return {}
    quantization = {} if student.quantization is None else {"quantization": student.quantization}
    return {"lora": student.lora, "export": adapter_export(student), **quantization}
