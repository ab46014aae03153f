from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from source_cases import PEFT_WARNS
from teaching_recipes import SHORT, teaching_recipe, trained
from transformers import AutoModelForSequenceClassification

from hf_distill.pipeline.adapter import ADAPTER_FOLDER, check_lora, sizes_of, with_adapter
from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.student import train_student
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe import Recipe
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


def test_the_exported_student_has_the_metrics_that_were_recorded(finished):
    recipe, record = finished
    run = FinishedRun(recipe)
    (batch,) = run.batches("validation")
    for model, recorded in zip(run.students(), record.runs, strict=True):
        logits, labels = run.rows(model.model, batch)
        assert (logits.argmax(-1) == labels).float().mean().item() == pytest.approx(recorded.final_metrics["accuracy"])


def test_the_record_names_the_adapter_and_pins_the_base(finished):
    _, record = finished
    assert record.student["lora"] == WHOLE
    assert record.student["parameters"] == 32 * 13 + 2
    assert record.student["trained_parameters"] == 2 * (10 + 32) + 2 * (32 + 2)
    (revision,) = record.revisions()
    assert (revision.name, revision.source) == ("adapter_off", "the student without its adapter")
    assert record.teacher["kind"] == "adapter_off"


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
    adapted = with_adapter(model, LORA)
    trained_names = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in trained_names)
    sizes = sizes_of(adapted)
    assert sizes == {"parameters": 16 * 13 + 2, "trained_parameters": 2 * (10 + 16) + 16 * 2 + 2}


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
        check_lora(lora)


def test_modules_that_are_not_there_are_refused_with_the_key():
    with pytest.raises(ValueError, match=r"^student\.lora: .*attention.*not found"):
        with_adapter(AutoModelForSequenceClassification.from_config(model_config()), {"target_modules": ["attention"]})
    assert check_lora(None) is None


def test_the_adapter_alone_is_kept_in_checkpoints(finished, tmp_path):
    recipe, _ = finished
    training = {**SHORT, "save_steps": 12}
    short = recipe_of(tmp_path, Path(recipe.student.model["pretrained"]), seeds=[0], training=training)
    run = run_recipe(short).runs[0]
    stored = load_file(tmp_path / run.folder / "checkpoint-24" / "adapter_model.safetensors")
    assert stored
    assert all("lora_" in name for name in stored)
