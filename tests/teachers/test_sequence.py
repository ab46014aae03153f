from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from builders import examples, save_teacher_run, tiny_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForMaskedLM, BertModel, PreTrainedTokenizerFast

from hf_distill import TeacherSequence
from hf_distill.teachers.retry import RevisionUnavailable
from hf_distill.teachers.swap import names_fit

STEPS = (10, 20, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_teacher_run(tmp_path / "teacher", steps=STEPS)


def attached(spec, head: str = "classification", **options) -> TeacherSequence:
    teacher = TeacherSequence(spec, **options)
    teacher.attach(head=head, accelerator=Accelerator(cpu=True))
    return teacher


def batch_of(head: str) -> dict[str, torch.Tensor]:
    items = examples(head)
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{index}": index for index in range(40)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="w1")


# ---- one revision after the other ----


def test_each_revision_answers_with_its_own_weights(folder):
    teacher, batch = attached(folder), batch_of("classification")
    for index in (0, 2, 1, 0):
        teacher.enter(index)
        model = tiny_model("classification", seed=STEPS[index])
        with torch.no_grad():
            expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(teacher.logits(batch), expected, rtol=0, atol=0)
    assert teacher.current == 0


def test_entering_the_current_revision_costs_nothing(folder):
    teacher = attached(folder)
    assert teacher.enter(1) > 0.0
    assert teacher.enter(1) == 0.0


def test_the_wait_before_entering_counts_as_a_stall(folder):
    teacher = attached(folder)
    teacher.enter(0)
    teacher.read_ahead(1)
    teacher.prepare(1)
    waited = teacher._waited
    assert waited > 0.0
    assert teacher.enter(1) > waited
    assert teacher._waited == 0.0


def test_every_swap_is_logged_with_its_pin(folder, caplog):
    teacher = attached(folder)
    with caplog.at_level(logging.INFO, logger="hf_distill"):
        teacher.enter(1)
    assert f"Teacher revision checkpoint-20 ({teacher.revisions[1].commit})" in caplog.text


def test_no_weights_are_read_before_they_are_needed(folder):
    teacher = attached(folder)
    assert "input_ids" in teacher.forward_arguments
    with pytest.raises(ValueError, match="holds no revision yet; call `enter"):
        teacher.model  # noqa: B018
    unattached = TeacherSequence(folder)
    with pytest.raises(ValueError, match="attach the teacher sequence to a trainer"):
        unattached.enter(0)


def test_sharded_revisions_are_whole_after_a_swap(tmp_path):
    for step in STEPS:
        tiny_model("classification", seed=step).save_pretrained(tmp_path / f"checkpoint-{step}", max_shard_size="9KB")
    assert len(list((tmp_path / "checkpoint-20").glob("model-*.safetensors"))) > 1
    teacher = attached(tmp_path)
    for index in (0, 1):
        teacher.enter(index)
        expected = tiny_model("classification", seed=STEPS[index]).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in teacher.model.state_dict().items())


@pytest.mark.parametrize(("asked", "held"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_the_number_format_stays_through_swaps(tmp_path, asked, held):
    for step in STEPS:
        tiny_model("classification", seed=step).bfloat16().save_pretrained(tmp_path / f"checkpoint-{step}")
    teacher = attached(tmp_path, dtype=asked)
    for index in (0, 1):
        teacher.enter(index)
        expected = tiny_model("classification", seed=STEPS[index]).bfloat16().state_dict()
        for name, value in teacher.model.state_dict().items():
            if value.is_floating_point():
                assert value.dtype == held
                assert torch.equal(value.bfloat16(), expected[name])


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_tied_embeddings_are_swapped_once_and_stay_tied(tmp_path, head):
    """The file holds one of the two names only."""
    save_teacher_run(tmp_path, head, steps=STEPS)
    teacher = attached(tmp_path, head)
    for index in (0, 2):
        teacher.enter(index)
        ours, expected = teacher.model.state_dict(), tiny_model(head, seed=STEPS[index]).state_dict()
        assert all(torch.equal(ours[name], expected[name]) for name in expected)
        output = teacher.model.get_output_embeddings().weight
        assert output.data_ptr() == teacher.model.get_input_embeddings().weight.data_ptr()


# ---- revisions that do not fit ----


def test_a_checkpoint_without_the_head_is_refused_as_noise(tmp_path):
    for step in STEPS:
        BertModel(tiny_model("classification").config).save_pretrained(tmp_path / f"checkpoint-{step}")
    with pytest.raises(ValueError, match=r"lacks weights that a classification teacher needs: classifier\.bias"):
        attached(tmp_path).enter(0)


def test_another_head_is_refused_before_any_weights_are_read(tmp_path):
    save_teacher_run(tmp_path, "masked_lm", steps=STEPS)
    with pytest.raises(ValueError, match=r"student has a classification head and the teacher, BertForMaskedLM"):
        attached(tmp_path)


def test_a_revision_that_changed_since_it_was_pinned_is_refused(folder):
    teacher = attached(folder)
    shutil.copy(folder / "checkpoint-10" / "model.safetensors", folder / "checkpoint-20" / "model.safetensors")
    teacher.enter(0)
    with pytest.raises(ValueError, match=r"'checkpoint-20'.*changed since it was pinned"):
        teacher.enter(1)
    teacher = attached(folder)
    shutil.copy(folder / "checkpoint-30" / "model.safetensors", folder / "checkpoint-20" / "model.safetensors")
    with pytest.raises(ValueError, match=r"'checkpoint-20'.*changed since it was pinned"):
        teacher.enter(1)


def test_a_revision_that_went_missing_stops_training_before_the_swap(folder):
    teacher = attached(folder)
    teacher.enter(0)
    shutil.rmtree(folder / "checkpoint-20")
    with pytest.raises(RevisionUnavailable, match=r"teacher revision checkpoint-20 .* cannot be had"):
        teacher.prepare(1)
    assert teacher.current == 0


def test_a_teacher_in_memory_gives_attentions_from_the_moment_they_are_asked_for(folder):
    """Another student of a comparison, which compares logits only, has loaded it before."""
    teacher, batch = attached(folder), batch_of("classification")
    teacher.enter(0)
    before = teacher.read(batch, layers=(1,), attentions=False).logits
    teacher.give_attentions()
    reading = teacher.read(batch, layers=(1,), attentions=True)
    assert [attention.shape[-1] for attention in reading.attentions] == [12] * len(reading.attentions)
    assert reading.attentions
    torch.testing.assert_close(reading.logits, before, rtol=1e-5, atol=1e-6)


# ---- what it says of itself ----


def test_the_tokenizer_is_the_one_given_or_the_one_beside_the_final_weights(folder, tmp_path):
    assert TeacherSequence(folder).tokenizer is None
    given = tokenizer()
    assert TeacherSequence(folder, tokenizer=given).tokenizer is given
    given.save_pretrained(tmp_path / "tokenizer")
    vocabulary = given.get_vocab()
    assert TeacherSequence(folder, tokenizer=str(tmp_path / "tokenizer")).tokenizer.get_vocab() == vocabulary
    given.save_pretrained(folder / "checkpoint-30")
    assert TeacherSequence(folder).tokenizer.get_vocab() == vocabulary


def test_the_manifest_pins_every_revision(folder):
    manifest = TeacherSequence(folder).manifest()
    assert [(entry["name"], entry["step"]) for entry in manifest] == [(f"checkpoint-{step}", step) for step in STEPS]
    assert len({entry["commit"] for entry in manifest}) == 3
    assert manifest == TeacherSequence(folder).manifest()


def test_narrowing_keeps_the_revision_in_memory(folder):
    teacher = attached(folder)
    teacher.enter(2)
    first, _, last = teacher.revisions
    teacher.narrow([first, last])
    assert (teacher.current, [revision.step for revision in teacher.revisions]) == (1, [10, 30])
    teacher.enter(0)
    assert torch.equal(
        teacher.model.classifier.weight, tiny_model("classification", seed=10).state_dict()["classifier.weight"]
    )
    teacher.narrow([last])
    assert teacher.current is None
    with pytest.raises(ValueError, match="narrowed to some of its own revisions, the final one at the end"):
        teacher.narrow([first])


def test_names_that_transformers_converts_on_loading_are_swapped_too(tmp_path):
    """Checkpoints of 2019 call LayerNorm's parameters gamma and beta."""
    save_teacher_run(tmp_path, "masked_lm", steps=STEPS)
    file = tmp_path / "checkpoint-20" / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(file).items()
    }
    save_file(old, file, metadata={"format": "pt"})
    expected = AutoModelForMaskedLM.from_pretrained(tmp_path / "checkpoint-20").state_dict()
    teacher = attached(tmp_path, "masked_lm")
    teacher.enter(0)
    assert not names_fit(old, teacher.model)
    teacher.enter(1)
    assert all(torch.equal(value, expected[name]) for name, value in teacher.model.state_dict().items())


@pytest.mark.slow
def test_a_parity_teacher_loads_in_a_process_that_imported_no_task(tmp_path):
    from hf_distill.tasks.parity_model import ParityMlpConfig, ParityMlpForSequenceClassification

    model = ParityMlpForSequenceClassification(ParityMlpConfig(input_size=5, width=3))
    model.save_pretrained(tmp_path / "checkpoint-1")
    code = (
        "import sys; from hf_distill import TeacherSequence; t = TeacherSequence(sys.argv[1]); "
        "t.attach(head='classification', accelerator=None); t.enter(0); print(type(t.model).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "ParityMlpForSequenceClassification" in done.stdout, done.stderr
