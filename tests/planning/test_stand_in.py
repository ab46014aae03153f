"""Teachers of the right size whose weights nobody has to download or train."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from accelerate import Accelerator
from builders import save_teacher_run, tiny_model
from teaching_recipes import teaching_recipe
from tiny_recipes import parity_recipe

from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.planning.model_size import model_size
from hf_distill.planning.stand_in import refuse_several_teachers, size_as_asked, source_as_asked, stand_in_teacher
from hf_distill.recipe.teacher_spec import ModelSpec
from hf_distill.tasks import Task, TaskData


@pytest.fixture
def task(tmp_path) -> Task:
    return task_of(parity_recipe(tmp_path / "run"))


@pytest.fixture
def data(task, tmp_path) -> TaskData:
    return task.prepare(seed=0, cache_dir=tmp_path)


def test_a_teacher_to_be_trained_has_the_revisions_that_its_arguments_promise(tmp_path, task, data):
    recipe = parity_recipe(tmp_path / "run")
    found = stand_in_teacher(recipe, task, data, Workspace(tmp_path), device="cpu")
    assert [revision.step for revision in found.revisions] == list(range(20, 161, 20))
    weights = sum(p.numel() * p.element_size() for p in found.model.parameters())
    assert found.disk_bytes == 8 * weights


def test_a_teacher_in_a_folder_takes_no_more_disk_and_no_memory(tmp_path, data):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    recipe = parity_recipe(tmp_path / "run", teacher={"source": str(folder)})
    found = stand_in_teacher(recipe, task_of(recipe), data, Workspace(tmp_path), device="meta")
    assert [revision.name for revision in found.revisions] == ["checkpoint-10", "checkpoint-20"]
    assert found.disk_bytes == 0
    assert {parameter.device.type for parameter in found.model.parameters()} == {"meta"}


def test_the_number_format_that_is_asked_for_counts(tmp_path, data):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10,))
    recipe = parity_recipe(tmp_path / "run", teacher={"source": str(folder), "dtype": "bfloat16"})
    found = stand_in_teacher(recipe, task_of(recipe), data, Workspace(tmp_path), device="meta")
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("kind", "whom"), [("takd", "assistant 2"), ("ensemble", "an ensemble of 2"), ("ema", "their own moving average")]
)
def test_several_teachers_are_refused_with_what_can_be_asked_instead(tmp_path, kind, whom):
    """A plan of the teacher alone would leave out what the assistants cost."""
    with pytest.raises(ValueError, match=f"students of this recipe learn from {whom}.*`hf-distill run --check`"):
        refuse_several_teachers(teaching_recipe(tmp_path, kind))
    assert refuse_several_teachers(parity_recipe(tmp_path)) is None


def test_a_teacher_is_not_run_as_it_is_where_the_recipe_asks_for_more(tmp_path, caplog):
    model = tiny_model("masked_lm")
    assert size_as_asked(model, ModelSpec()) == model_size(model)
    source = source_as_asked(model, ModelSpec(compile="eager", offload=True), tmp_path / "unused")
    assert "teacher.hidden_states" not in source.provides
    assert not (tmp_path / "unused").exists()
    source = source_as_asked(model, ModelSpec(sharded=True), tmp_path / "unused")
    with caplog.at_level("WARNING"):
        source.attach(head="masked_lm", accelerator=Accelerator(cpu=True))
    assert "sharded: the student is whole on every rank (NO)" in caplog.text


@pytest.mark.skipif(importlib.util.find_spec("optimum") is None, reason="the package optimum is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantised_teacher_is_not_planned_at_its_full_size(tmp_path):
    torch.manual_seed(0)
    model = tiny_model("masked_lm", hidden_size=64, intermediate_size=128)
    spec = ModelSpec(quantization={"quant_method": "quanto", "weights": "int8"})
    whole, quantised = model_size(model), size_as_asked(model, spec)
    assert 0.25 * whole.weight_bytes < quantised.weight_bytes < 0.5 * whole.weight_bytes
    assert quantised.parameters == whole.parameters
    source = source_as_asked(model, spec, tmp_path / "stand-in")
    source.attach(head="masked_lm", accelerator=None)
    source.enter(0)
    assert source.model.is_quantized
