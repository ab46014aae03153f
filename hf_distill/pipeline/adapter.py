"""Students that are trained as a LoRA adapter: wrapped before training, merged into their base for export."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from hf_distill.strict_dataclass import check_known_keys
from hf_distill.trainer import ProgressiveDistillTrainer

ADAPTER_FOLDER = "adapter"
"""Beside the merged student: in its own folder transformers would put the adapter on a second time."""
_NOT_HERE = ("task_type", "inference_mode", "peft_type", "auto_mapping", "base_model_name_or_path", "revision")


def check_lora(lora: Mapping[str, Any] | None) -> None:
    """Refuse what is no key of `peft.LoraConfig`, and what follows from the student.

    Raises:
        ValueError: Such a key.
    """
    known = [field.name for field in dataclasses.fields(LoraConfig) if field.init and field.name not in _NOT_HERE]
    check_known_keys(lora or {}, known, path="student.lora")


def with_adapter(model: PreTrainedModel, lora: Mapping[str, Any]) -> PeftModel:
    """Return the model with a fresh adapter, which alone is trained; its head too where `modules_to_save` names it.

    Raises:
        ValueError: PEFT refuses a setting, or finds none of the modules.
    """
    try:
        # Without a task type: a wrapper for sequences would ask an image model for token ids.
        return get_peft_model(model, LoraConfig(**lora))
    except (ValueError, TypeError) as error:
        raise ValueError(f"student.lora: {error}") from error


def export(trainer: ProgressiveDistillTrainer) -> None:
    """Save the trained student: as it is, or with its adapter merged into it and the adapter alone beside it.

    The trainer's student is merged in place: it is at its end.
    """
    model: Any = trainer.model
    if not isinstance(model, PeftModel):
        trainer.save_model()
        return
    folder = Path(str(trainer.args.output_dir))
    writes = trainer.is_world_process_zero()
    if writes:
        model.save_pretrained(folder / ADAPTER_FOLDER)
    trainer.accelerator.wait_for_everyone()
    merged = model.merge_and_unload(safe_merge=True)
    if writes:
        merged.save_pretrained(folder)
        if trainer.processing_class is not None:
            trainer.processing_class.save_pretrained(folder)


def sizes_of(model: Any) -> dict[str, Any]:
    """Return the number of a student's parameters, and of those that are trained where only an adapter is."""
    if not isinstance(model, PeftModel):
        return {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    trained, everything = model.get_nb_trainable_parameters()
    return {"parameters": everything - trained, "trained_parameters": trained}
