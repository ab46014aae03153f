"""Weights that are lent to a device: copies during a call, the ones in CPU memory before and after it."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from builders import distill_trainer, examples, flat_weights, save_teacher_run, tiny_model

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.kernels import HeadRows
from hf_distill.reading.layers import layer_tap
from hf_distill.reading.row_head import RowHead
from hf_distill.teachers.base import freeze
from hf_distill.teachers.offload import Offload

CPU = torch.device("cpu")
IDS = torch.arange(6).reshape(2, 3)


def lent(head: str = "masked_lm"):
    """Return a model whose weights are lent to the CPU itself, and where they lie."""
    model = tiny_model(head)
    freeze(model)
    Offload(model, CPU)
    return model, places(model)


def places(model: torch.nn.Module) -> list[int]:
    return [parameter.data_ptr() for parameter in model.parameters()]


@torch.no_grad()
def test_a_call_does_not_use_the_weights_that_are_kept():
    model, kept = lent()
    seen: list[list[int]] = []
    model.bert.encoder.register_forward_pre_hook(lambda *_: seen.append(places(model)))
    found = model(input_ids=IDS).logits
    assert not set(seen[0]) & set(kept)
    assert places(model) == kept
    assert torch.equal(found, tiny_model("masked_lm").eval()(input_ids=IDS).logits)


@torch.no_grad()
def test_a_forward_that_ends_early_keeps_no_copies():
    model, kept = lent()
    with layer_tap(model, [1], stop=True) as outputs:
        model(input_ids=IDS)
    assert 1 in outputs
    assert places(model) == kept
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        model()
    assert places(model) == kept
    model(input_ids=IDS)
    assert places(model) == kept


def test_embeddings_outside_of_a_forward_are_lent():
    model, kept = lent()
    embeddings, seen = model.get_input_embeddings(), []
    embeddings.register_forward_hook(lambda module, *_: seen.append(module.weight.data_ptr()), prepend=True)
    embeddings(IDS)
    model(input_ids=IDS)
    assert len(seen) == 2
    assert not set(seen) & set(kept)
    assert places(model) == kept


@torch.no_grad()
def test_new_weights_are_used_by_the_next_call():
    model, _ = lent()
    model(input_ids=IDS)
    other = tiny_model("masked_lm", seed=5).eval()
    for name, tensor in model.state_dict().items():
        tensor.copy_(other.state_dict()[name])
    assert torch.equal(model(input_ids=IDS).logits, other(input_ids=IDS).logits)


@torch.no_grad()
def test_rows_in_front_of_the_head_keep_the_head():
    """What a call hands out has to outlive the call's copies."""
    model, kept = lent()
    rows = RowHead(model).read(
        lambda: model(input_ids=IDS), lambda hidden, head: head.rows(hidden.flatten(0, 1)).detached()
    )
    assert isinstance(rows, HeadRows)
    assert rows.weight_VH.data_ptr() not in kept
    torch.testing.assert_close(rows.logits(), tiny_model("masked_lm").eval()(input_ids=IDS).logits.flatten(0, 1))


@pytest.mark.parametrize("kind", ["live", "sequence"])
def test_offload_on_a_cpu_changes_nothing(tmp_path, kind, caplog):
    source = save_teacher_run(tmp_path / "teacher", "masked_lm", steps=(10,)) if kind == "sequence" else None

    def run(offload: bool) -> torch.Tensor:
        teacher = (
            TeacherSequence(source, offload=offload)
            if source is not None
            else LiveTeacher(tiny_model("masked_lm", seed=10), offload=offload)
        )
        trainer = distill_trainer(tmp_path / str(offload), "masked_lm", teacher=teacher)
        trainer.train()
        return flat_weights(trainer.model)

    with caplog.at_level("INFO", "hf_distill.teachers.placement"):
        assert torch.equal(run(True), run(False))
    assert ["lie anyway" in record.message for record in caplog.records] == [True]


@pytest.mark.gpu
def test_weights_lie_on_the_cpu_between_calls_and_after_a_switch(tmp_path):
    """Pinned weights on the CPU between calls, the same logits as on the device, also after a switch."""
    folder = save_teacher_run(tmp_path / "teacher", "masked_lm", steps=(10, 20))
    items = examples("masked_lm")
    batch = {key: torch.stack([item[key] for item in items]).cuda() for key in items[0]}
    teachers = [TeacherSequence(folder, offload=offload) for offload in (True, False)]
    for teacher in teachers:
        teacher.attach(head="masked_lm", accelerator=Accelerator())
    for index in (0, 1):
        for teacher in teachers:
            teacher.enter(index)
        logits = [teacher.logits(batch) for teacher in teachers]
        assert logits[0].device.type == "cuda"
        torch.testing.assert_close(*logits)
        assert all(parameter.is_pinned() for parameter in teachers[0].model.parameters())
        before = torch.cuda.memory_allocated()
        teachers[0].logits(batch)
        assert torch.cuda.memory_allocated() - before < 2**20
