"""torch.compile for the body of a model: its head and the loss in tiles stay outside of the graph."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from torch import nn
from transformers import PreTrainedModel

from hf_distill.teachers.sharding import SHARDING


def body_of(model: nn.Module) -> nn.Module:
    """Return the part of a model in front of its head.

    Raises:
        ValueError: It is no transformers model, or a vocabulary's head is not apart from the rest.
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"only transformers models are compiled, got {type(model).__name__}; leave compiling out")
    body = model.base_model
    if body is model and model.get_output_embeddings() is not None:
        raise ValueError(
            f"{type(model).__name__} has no base model apart from its head, so it cannot be compiled without the "
            "head, whose logits are computed in tiles; leave compiling out"
        )
    return body


def compile_body(model: nn.Module, **settings: Any) -> None:
    """Compile the body of a model in place: no wrapper, so that no name in a checkpoint changes.

    Hooks that are set later are not seen inside a compiled module. In front of the head, where rows are taken out, is
    outside of it; objectives on layers are not.

    Args:
        model: Compiled at its first call.
        **settings: As for `torch.compile`.

    Raises:
        ValueError: As in `body_of`.
    """
    body_of(model).compile(**settings)


def compile_student(model: nn.Module, accelerator: Accelerator) -> bool:
    """Compile a student's body, where the accelerator was asked to compile (`torch_compile`), in place of all of it.

    Accelerate would wrap the whole model, head and loss included, and the teacher as well.

    Args:
        model: Without wrappers.
        accelerator: Is told that nothing is left to compile.

    Returns:
        Whether the student is compiled.

    Raises:
        ValueError: As in `body_of`, or an engine splits the model over ranks.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin is None or plugin.backend == DynamoBackend.NO:
        return False
    if accelerator.distributed_type in SHARDING:
        raise ValueError(
            f"torch_compile does not follow the hooks of {accelerator.distributed_type.value} around each layer; "
            "leave it out, or train with DistributedDataParallel, without that engine"
        )
    compile_body(model, **plugin.to_kwargs())
    plugin.backend = DynamoBackend.NO
    return True


def check_layers_are_seen(needs: Collection[str]) -> None:
    """Refuse what looks into a compiled student.

    Raises:
        ValueError: An objective needs its hidden states or attentions.
    """
    inside = sorted(need for need in needs if need in ("student.hidden_states", "student.attentions"))
    if inside:
        raise ValueError(
            f"the objectives need {', '.join(inside)}, which are read where torch_compile lets nobody look; leave "
            "torch_compile out, or use objectives that compare logits"
        )
