from __future__ import annotations

import pytest
import torch
from builders import distill_trainer, tiny_model
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from source_cases import CASES, LORA, PEFT_WARNS, batch_of, begun, student_model
from torch import nn

from hf_distill import LiveTeacher
from hf_distill.reading.signals import select_rows
from hf_distill.teachers import AdapterOffTeacher

pytestmark = PEFT_WARNS
CASE = next(case for case in CASES if case.name == "adapter_off")
MIXED = {"name": "one_shot", "label_mix": 0.5}


def adapted(**overrides) -> nn.Module:
    config = LoraConfig(**{"task_type": "SEQ_CLS", **LORA, **overrides})
    return get_peft_model(tiny_model("classification", seed=1), config)


def test_it_answers_as_the_model_did_before_it_had_an_adapter(tmp_path):
    trainer = begun(CASE, tmp_path)
    before, batch = LiveTeacher(tiny_model("classification", seed=1)), batch_of()
    torch.testing.assert_close(trainer.teacher.logits(batch), before.logits(batch))
    torch.testing.assert_close(trainer.teacher.hidden_states(batch, [1, 2])[2], before.hidden_states(batch, [1, 2])[2])
    reading = trainer.teacher.read(batch, layers=(1,), attentions=False)
    torch.testing.assert_close(reading.hidden[1], before.read(batch, layers=(1,), attentions=False).hidden[1])
    trainer.model.eval()
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        assert not torch.allclose(trainer.model(**inputs).logits, trainer.teacher.logits(batch), atol=1e-3)


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_rows_in_front_of_a_vocabularys_head_are_the_base_models(head):
    modules = ["query", "value"] if head == "masked_lm" else ["c_attn"]
    config = LoraConfig(r=2, target_modules=modules, init_lora_weights=False, fan_in_fan_out=head == "causal_lm")
    student = get_peft_model(tiny_model(head, seed=1), config)
    source, before, batch = AdapterOffTeacher(), LiveTeacher(tiny_model(head, seed=1)), batch_of(head=head)
    source.attach_student(student)
    source.attach(head=head, accelerator=None)
    rows = select_rows(head, batch)
    torch.testing.assert_close(source.row_logits(batch, rows), rows.of(before.logits(batch)))


def test_it_answers_the_same_after_the_adapter_was_trained(tmp_path):
    trainer = distill_trainer(tmp_path, model=student_model(CASE), teacher=AdapterOffTeacher(), curriculum=MIXED)
    before = trainer.teacher.logits(batch_of())
    trainer.train()
    assert torch.equal(trainer.teacher.logits(batch_of()), before)


def test_modes_and_what_is_trained_are_exactly_as_before(tmp_path):
    """`train()` would wake a module that sleeps on purpose; PEFT makes an adapter that is put on trainable."""
    trainer = begun(CASE, tmp_path)
    model = trainer.model
    model.base_model.model.bert.embeddings.eval()
    frozen = next(parameter for name, parameter in model.named_parameters() if "lora_A" in name)
    frozen.requires_grad_(False)

    def state() -> list:
        return [module.training for module in model.modules()] + [p.requires_grad for p in model.parameters()]

    before = state()
    trainer.teacher.logits(batch_of())
    assert state() == before
    assert not frozen.requires_grad

    class Stop(Exception):
        pass

    def stop(*_args):
        raise Stop

    model.base_model.model.bert.encoder.register_forward_hook(stop)
    with pytest.raises(Stop):
        trainer.teacher.logits(batch_of())
    assert state() == before


def test_the_students_gradient_does_not_notice_the_teachers_forward(tmp_path):
    """The teacher runs between the student's forward and its backward, with dropout in the student."""
    gradients = []
    for asks in (False, True):
        trainer = begun(CASE, tmp_path / str(asks))
        torch.manual_seed(3)
        loss = trainer.model(**batch_of()).loss
        if asks:
            trainer.teacher.logits(batch_of())
        loss.backward()
        after = torch.rand(3)
        gradients.append([p.grad for p in trainer.model.parameters() if p.requires_grad] + [after])
    assert len(gradients[0]) > 4
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_its_pin_is_that_of_the_base_weights_whatever_the_adapter_holds():
    pins = []
    for seed, base in ((0, 1), (1, 1), (0, 2)):
        source = AdapterOffTeacher()
        model = tiny_model("classification", seed=base)
        torch.manual_seed(seed)
        source.attach_student(get_peft_model(model, LoraConfig(task_type="SEQ_CLS", init_lora_weights=False, **LORA)))
        pins.append(source.revisions[0].commit)
    assert pins[0] == pins[1] != pins[2]


@pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers with bias:UserWarning")
def test_base_weights_that_are_trained_too_are_refused():
    with pytest.raises(
        ValueError, match=r"base model are trained beside its adapter \(.*bias.*train the adapter only"
    ):
        AdapterOffTeacher().attach_student(adapted(bias="lora_only"))
    model = adapted()
    model.base_model.model.bert.embeddings.word_embeddings.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"word_embeddings.weight.*so that the teacher would move"):
        AdapterOffTeacher().attach_student(model)


def test_a_student_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"BertForSequenceClassification without an adapter to switch off; wrap it"):
        distill_trainer(tmp_path, teacher=AdapterOffTeacher())


def test_a_prompt_is_switched_off_too():
    torch.manual_seed(0)
    base = tiny_model("causal_lm", seed=1)
    student = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    source = AdapterOffTeacher()
    source.attach_student(student)
    source.attach(head="causal_lm", accelerator=None)
    batch = batch_of(2, head="causal_lm")
    expected = LiveTeacher(tiny_model("causal_lm", seed=1)).logits(batch)
    torch.testing.assert_close(source.logits(batch), expected)
