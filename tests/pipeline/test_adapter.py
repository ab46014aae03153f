from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from builders import tiny_model
from peft import PeftModel
from safetensors.torch import load_file
from source_cases import PEFT_WARNS
from teaching_recipes import SHORT, teaching_recipe, trained
from tiny_recipes import text_recipe, write_text
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, BitsAndBytesConfig

from hf_distill.pipeline.adapter import (
    ADAPTER_FOLDER,
    adapter_record,
    check_adapter,
    refuse_new_weights,
    sizes_of,
    with_adapter,
)
from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.student import train_student
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe, StudentSpec
from hf_distill.run_record import RunRecord
from hf_distill.tasks import ParityMlpConfig
from hf_distill.teachers import AdapterOffTeacher

pytestmark = PEFT_WARNS
LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["layers.0.0"], "modules_to_save": ["output"]}
WHOLE = {**LORA, "target_modules": ["layers.0.0", "output"], "modules_to_save": None}


def recipe_of(folder: Path, base: Path, **changes) -> Recipe:
    student = {"model": {"pretrained": str(base)}, "lora": WHOLE}
    return teaching_recipe(
        folder, "ema", **{"student": student, "teacher": {"self_teacher": {"name": "adapter_off"}}, **changes}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, RunRecord]:
    """A run whose students learn from themselves without their adapter, and by half from labels."""
    folder = tmp_path_factory.mktemp("adapter")
    first = teaching_recipe(folder / "base", "takd", teacher={"train": trained(16)}, seeds=[0])
    base = run_recipe(first).runs[0].folder
    recipe = recipe_of(folder / "run", folder / "base" / base)
    return recipe, run_recipe(recipe)


@pytest.mark.slow
def test_the_exported_student_is_its_base_with_the_adapter_merged(finished):
    recipe, record = finished
    folder = Path(recipe.output_dir) / record.runs[0].folder
    assert not list(folder.glob("adapter_*"))
    merged, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    base = AutoModelForSequenceClassification.from_pretrained(recipe.student.model["pretrained"])
    beside = PeftModel.from_pretrained(base, folder / ADAPTER_FOLDER).eval()
    inputs = torch.randn(5, 10)
    torch.testing.assert_close(merged(inputs=inputs).logits, beside(inputs=inputs).logits, rtol=1e-5, atol=1e-6)
    with torch.no_grad(), beside.disable_adapter():
        assert not torch.allclose(merged(inputs=inputs).logits, beside(inputs=inputs).logits, atol=1e-3)


@pytest.mark.slow
def test_the_exported_student_has_the_metrics_that_were_recorded(finished):
    recipe, record = finished
    run = FinishedRun(recipe)
    (batch,) = run.batches("validation")
    for model, recorded in zip(run.students(), record.runs, strict=True):
        logits, labels = run.rows(model.model, batch)
        assert (logits.argmax(-1) == labels).float().mean().item() == pytest.approx(recorded.final_metrics["accuracy"])


@pytest.mark.slow
def test_the_record_names_the_adapter_and_pins_the_base(finished):
    _, record = finished
    assert record.student["lora"] == WHOLE
    assert record.student["parameters"] == 32 * 13 + 2
    assert record.student["trained_parameters"] == 2 * (10 + 32) + 2 * (32 + 2)
    (revision,) = record.revisions()
    assert (revision.name, revision.source) == ("adapter_off", "the student without its adapter")
    assert record.teacher["kind"] == "adapter_off"


@pytest.mark.slow
def test_a_student_cut_short_becomes_the_same_student(finished, tmp_path):
    recipe, record = finished
    again = recipe_of(tmp_path, Path(recipe.student.model["pretrained"]), seeds=[0])
    task, workspace, (cell,) = task_of(again), Workspace(tmp_path), cells_of(again)
    cut = build_trainer(cell, again, task, AdapterOffTeacher(), workspace)
    cut.args.max_steps = 12
    cut.args.save_only_model = False
    cut.train()
    resumed = build_trainer(cell, again, task, AdapterOffTeacher(), workspace)
    train_student(resumed, again, task, label=cell.label, workspace=workspace)
    ours = load_file(workspace.student(cell.label, 0) / "model.safetensors")
    theirs = load_file(Path(recipe.output_dir) / record.runs[0].folder / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_the_adapter_and_what_is_to_be_saved_is_trained():
    model = AutoModelForSequenceClassification.from_config(model_config())
    adapted = with_adapter(model, student_of(LORA))
    trained_names = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in trained_names)
    sizes = sizes_of(adapted)
    assert sizes == {"parameters": 16 * 13 + 2, "trained_parameters": 2 * (10 + 16) + 16 * 2 + 2}


def student_of(lora: dict | None, **keys) -> StudentSpec:
    return StudentSpec(model={"pretrained": "base"}, lora=lora, **keys)


def model_config() -> ParityMlpConfig:
    return ParityMlpConfig(input_size=10, width=16, num_labels=2)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 4}, r"^student\.lora\.rank: unknown key"),
        ({"task_type": "SEQ_CLS"}, r"^student\.lora\.task_type: unknown key"),
        ({"r": 4, "lora_alfa": 8}, r"^student\.lora\.lora_alfa: unknown key\. Did you mean `lora_alpha`"),
    ],
)
def test_keys_that_are_not_lora_configs_are_refused(lora, message):
    with pytest.raises(ValueError, match=message):
        check_adapter(student_of(lora))


def test_modules_that_are_not_there_are_refused_with_the_key():
    model = AutoModelForSequenceClassification.from_config(model_config())
    with pytest.raises(ValueError, match=r"^student\.lora: .*attention.*not found"):
        with_adapter(model, student_of({"target_modules": ["attention"]}))
    assert check_adapter(student_of(None)) is None


@pytest.mark.slow
def test_the_adapter_alone_is_kept_in_checkpoints(finished, tmp_path):
    recipe, _ = finished
    training = {**SHORT, "save_steps": 12}
    short = recipe_of(tmp_path, Path(recipe.student.model["pretrained"]), seeds=[0], training=training)
    run = run_recipe(short).runs[0]
    stored = load_file(tmp_path / run.folder / "checkpoint-24" / "adapter_model.safetensors")
    assert stored
    assert all("lora_" in name for name in stored)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, finished) -> tuple[Recipe, RunRecord]:
    """The same students, of which only the adapter is left."""
    base = Path(finished[0].student.model["pretrained"])
    student = {"model": {"pretrained": str(base)}, "lora": WHOLE, "export": "adapter"}
    recipe = recipe_of(tmp_path_factory.mktemp("alone"), base, student=student, seeds=[0])
    return recipe, run_recipe(recipe)


@pytest.mark.slow
def test_an_adapter_alone_says_what_the_merged_student_says(finished, alone):
    folders = [Path(recipe.output_dir) / record.runs[0].folder for recipe, record in (finished, alone)]
    assert (folders[1] / "adapter_model.safetensors").is_file()
    assert not (folders[1] / "model.safetensors").exists()
    merged, plain = (AutoModelForSequenceClassification.from_pretrained(folder).eval() for folder in folders)
    base = AutoModelForSequenceClassification.from_pretrained(alone[0].student.model["pretrained"])
    peft = PeftModel.from_pretrained(base, folders[1]).eval()
    inputs = torch.randn(5, 10)
    with torch.no_grad():
        wanted = merged(inputs=inputs).logits
        torch.testing.assert_close(plain(inputs=inputs).logits, wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(peft(inputs=inputs).logits, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_analyses_find_a_student_of_which_only_the_adapter_is_left(alone):
    recipe, record = alone
    run = FinishedRun(recipe)
    (batch,) = run.batches("validation")
    (model,) = run.students()
    logits, labels = run.rows(model.model, batch)
    found = (logits.argmax(-1) == labels).float().mean().item()
    assert found == pytest.approx(record.runs[0].final_metrics["accuracy"])
    assert record.student["export"] == "adapter"


def test_an_adapter_alone_needs_a_base_that_others_have_too(tmp_path):
    model = AutoModelForSequenceClassification.from_config(model_config())
    body = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("output")}
    model.save_pretrained(tmp_path / "base", state_dict=body)
    student = {"model": {"pretrained": str(tmp_path / "base")}, "lora": WHOLE, "export": "adapter"}
    recipe = recipe_of(tmp_path / "run", tmp_path / "base", student=student)
    with pytest.raises(ValueError, match=r"student\.export: the base lacks output\.(bias|weight).*export it `merged`"):
        build_trainer(cells_of(recipe)[0], recipe, task_of(recipe), AdapterOffTeacher(), Workspace(tmp_path / "run"))
    assert refuse_new_weights([]) is None


def test_the_record_says_how_the_adapter_is_kept():
    assert adapter_record(student_of(None)) == {}
    assert adapter_record(student_of(LORA)) == {"lora": LORA, "export": "merged"}
    four = {"load_in_4bit": True}
    kept = adapter_record(student_of(LORA, quantization=four))
    assert kept == {"lora": LORA, "export": "adapter", "quantization": four}


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_quantisation_without_bitsandbytes_is_refused_before_any_training():
    with pytest.raises(ValueError, match=r"^student\.quantization: .*cannot be used here: .*bitsandbytes"):
        check_adapter(student_of(LORA, quantization={"load_in_4bit": True}))


def test_keys_that_are_not_of_the_quantisation_are_refused():
    with pytest.raises(ValueError, match=r"^student\.quantization\.bnb_4bit_quant_typ: .*has no such field"):
        check_adapter(student_of(LORA, quantization={"load_in_4bit": True, "bnb_4bit_quant_typ": "nf4"}))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_quantised_base_without_a_gpu_is_refused_before_any_training():
    with pytest.raises(ValueError, match=r"^student\.quantization: bitsandbytes cannot train and evaluate in turn"):
        check_adapter(student_of(LORA, quantization={"load_in_8bit": True}), on_cpu=True)


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("export", ["adapter", "merged"])
def test_an_adapter_on_a_quantised_base_learns_and_is_loaded_again(tmp_path, export):
    quantization = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    tiny_model("masked_lm", hidden_size=64, intermediate_size=128, vocab_size=320).save_pretrained(tmp_path / "base")
    lora = {"r": 4, "target_modules": ["query", "value"]}
    student = {"model": {"pretrained": str(tmp_path / "base")}, "lora": lora, "export": export}
    recipe = text_recipe(
        tmp_path / "run",
        write_text(tmp_path / "text", documents=20),
        "masked_lm",
        teacher={"self_teacher": {"name": "adapter_off"}},
        student={**student, "quantization": quantization},
        compare={"one_shot": {"name": "one_shot", "label_mix": 0.5}},
        training={**SHORT, "use_cpu": False},
    )
    record = run_recipe(recipe)
    folder = tmp_path / "run" / record.runs[0].folder
    assert record.student["trained_parameters"] == 2 * 2 * 2 * 64 * 4
    adapter = folder if export == "adapter" else folder / ADAPTER_FOLDER
    learned = load_file(adapter / "adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for name, tensor in learned.items() if "lora_B" in name)
    ids = torch.arange(5, 15, device="cuda")[None]
    four = BitsAndBytesConfig(**quantization)
    bases = [
        AutoModelForMaskedLM.from_pretrained(tmp_path / "base", device_map="cuda", **more)
        for more in ({}, {"quantization_config": four})
    ]
    plain = AutoModelForMaskedLM.from_pretrained(folder).to("cuda").eval()
    full, quantised = (PeftModel.from_pretrained(base, adapter).eval() for base in bases)
    with torch.no_grad():
        wanted = plain(ids).logits
        torch.testing.assert_close(full(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-5)
        # Four bits round the base; the adapter is the same.
        apart = (quantised(input_ids=ids).logits - wanted).abs().max()
    assert 0 < apart < 0.5 * wanted.abs().max()
