"""Finished students are fine-tuned once each, beside one from new weights, recorded, resumed and shown."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from finetunes import QUICK, finetuned_recipe, other_text
from huggingface_hub import ModelCard
from tiny_recipes import parity_recipe, write_text
from transformers import AutoModelForMaskedLM

from hf_distill.pipeline.downstream import starts_of
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord
from hf_distill.teachers.weight_files import content_hash


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A recipe that was run: a student, its teacher and new weights, fine-tuned."""
    root = tmp_path_factory.mktemp("finetuned")
    recipe = finetuned_recipe(root, block={"teacher": True}, report={"enabled": True})
    return recipe, run_recipe(recipe, command=["hf-distill", "run", "tiny.yaml"])


def copied(done, folder: Path, **changes) -> Recipe:
    """The run in another folder, with other fields of its recipe."""
    recipe, _ = done
    shutil.copytree(recipe.output_dir, folder)
    return Recipe.from_dict({**recipe.to_dict(), "output_dir": str(folder), **changes})


@pytest.mark.slow
def test_every_beginning_is_fine_tuned_and_recorded(done):
    recipe, record = done
    (block,) = record.downstream
    assert [(run.curriculum, run.seed) for run in block.runs] == [("two_shot", 0), ("from_scratch", 0), ("teacher", 0)]
    assert block.task["metric"] == "masked_accuracy"
    assert block.task["description"]["validation_rows"] > 0
    assert block.carried == {"two_shot": 1.0, "teacher": 1.0}
    for run in block.runs:
        folder = Path(recipe.output_dir) / run.folder
        assert (folder / "model.safetensors").is_file()
        assert (folder / "tokenizer.json").is_file()
        assert [point["step"] for point in run.history] == [2, 4]
        assert run.final_metrics["masked_accuracy"] == run.history[-1]["masked_accuracy"]
    assert RunRecord.load(recipe.output_dir).to_dict() == record.to_dict()


@pytest.mark.slow
def test_a_fine_tuning_begins_with_the_students_weights_and_new_ones_with_none(done, tmp_path):
    recipe = copied(done, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "finetune")
    training = {**QUICK, "learning_rate": 0.0, "max_steps": 2}
    block = {**recipe.to_dict()["finetune"][0], "training": training}
    run_recipe(
        dataclasses.replace(recipe, finetune=Recipe.from_dict({**recipe.to_dict(), "finetune": [block]}).finetune)
    )
    models = {
        name: AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / place).state_dict()
        for name, place in {
            "student": "students/two_shot/seed-0",
            "tuned": "finetune/other/two_shot/seed-0",
            "scratch": "finetune/other/from_scratch/seed-0",
        }.items()
    }
    key = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(models["student"][key], models["tuned"][key])
    assert not torch.equal(models["student"][key], models["scratch"][key])
    assert {name: one.shape for name, one in models["tuned"].items()} == {
        name: one.shape for name, one in models["scratch"].items()
    }


@pytest.mark.slow
def test_a_finished_stage_is_kept_and_a_broken_off_one_goes_on(done, tmp_path):
    recipe, record = copied(done, tmp_path / "run"), done[1]
    kept = tmp_path / "run/finetune/other"
    (kept / "teacher/seed-0/student_run.json").unlink()
    before = (kept / "two_shot/seed-0/model.safetensors").stat().st_mtime_ns
    again = run_recipe(recipe)
    assert (kept / "two_shot/seed-0/model.safetensors").stat().st_mtime_ns == before
    ends = [[run.final_metrics for run in one.downstream[0].runs] for one in (record, again)]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_a_block_added_to_a_finished_run_trains_no_student_again(done, tmp_path):
    recipe = copied(done, tmp_path / "run")
    text = Path(done[0].output_dir).parent / "text"
    more = [*recipe.to_dict()["finetune"], other_text(text, name="more", from_scratch=False)]
    student = tmp_path / "run/students/two_shot/seed-0/model.safetensors"
    before = student.stat().st_mtime_ns
    record = run_recipe(Recipe.from_dict({**recipe.to_dict(), "finetune": more}))
    assert [block.name for block in record.downstream] == ["other", "more"]
    assert [run.curriculum for run in record.downstream[1].runs] == ["two_shot"]
    assert student.stat().st_mtime_ns == before
    assert [spec.name for spec in Recipe.load(tmp_path / "run/recipe.yaml").finetune] == ["other", "more"]


@pytest.mark.slow
def test_other_arguments_under_the_same_name_are_refused(done, tmp_path):
    recipe = copied(done, tmp_path / "run")
    block = {**recipe.to_dict()["finetune"][0], "training": {**QUICK, "learning_rate": 0.5}}
    with pytest.raises(
        ValueError, match=r"finetune\[0\]: .*differs in training\.learning_rate; give this one another"
    ):
        run_recipe(Recipe.from_dict({**recipe.to_dict(), "finetune": [block]}))


@pytest.mark.slow
def test_the_same_file_starts_from_a_trained_student_without_distilling(done, tmp_path):
    student = Path(done[0].output_dir) / "students/two_shot/seed-0"
    fields = {"compare": None, "curriculum": None, "student": {"model": {"pretrained": str(student)}}}
    block = {**done[0].to_dict()["finetune"][0], "seeds": [3, 4], "teacher": False}
    recipe = Recipe.from_dict(
        {**done[0].to_dict(), **fields, "output_dir": str(tmp_path / "run"), "finetune": [block]}
    )
    record = run_recipe(recipe)
    assert record.runs == []
    assert [(run.curriculum, run.seed) for run in record.downstream[0].runs] == [
        ("student", 3), ("student", 4), ("from_scratch", 3), ("from_scratch", 4),
    ]  # fmt: skip
    assert record.downstream[0].carried == {"student": 1.0}
    pin = record.downstream[0].runs[0].began_with
    assert pin.commit == content_hash(student)
    card = (tmp_path / "run/finetune/other/student/seed-3/README.md").read_text(encoding="utf-8")
    assert pin.commit in card and "base_model" not in card
    assert not (tmp_path / "run" / "teacher").exists()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Nothing was distilled" in page


def test_each_student_is_fine_tuned_with_its_own_seed(tmp_path):
    recipe = finetuned_recipe(tmp_path, seeds=[0, 1, 2], block={"seeds": [0, 2]})
    starts = starts_of(recipe, recipe.finetune[0], Workspace(tmp_path / "run"))
    assert [(start.label, start.seed, start.fresh) for start in starts] == [
        ("two_shot", 0, False), ("two_shot", 2, False), ("from_scratch", 0, True), ("from_scratch", 2, True),
    ]  # fmt: skip
    assert starts[1].model["pretrained"].endswith("students/two_shot/seed-2")


@pytest.mark.slow
def test_report_tables_and_card_show_the_fine_tunings(done):
    root = Path(done[0].output_dir)
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "Fine-tuned: other" in page
    assert "100 % (two_shot)" in page
    assert (root / "finetuned_other.png").is_file()
    assert "from_scratch" in (root / "finetuned_other.csv").read_text(encoding="utf-8")
    assert "## Fine-tuned: other" in (root / "results.md").read_text(encoding="utf-8")
    card = (root / "students/two_shot/seed-0/README.md").read_text(encoding="utf-8")
    assert "| other | masked accuracy |" in card


@pytest.mark.slow
def test_what_a_fine_tuning_began_with_is_pinned(done):
    root, (block,) = Path(done[0].output_dir), done[1].downstream
    pins = {run.curriculum: run.began_with for run in block.runs}
    assert pins["two_shot"].source == "students/two_shot/seed-0"
    assert pins["two_shot"].commit == content_hash(root / "students/two_shot/seed-0")
    assert pins["teacher"].commit == done[1].revisions()[-1].commit
    assert pins["from_scratch"] is None


@pytest.mark.slow
def test_every_fine_tuned_model_has_a_card_whose_figures_are_the_records(done, monkeypatch, capsys):
    root, record = Path(done[0].output_dir), done[1]
    (block,) = record.downstream
    by_label = {run.curriculum: run for run in block.runs}
    for label, run in by_label.items():
        card = ModelCard.load(root / run.folder / "README.md")
        results = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert results == {key: value for key, value in run.final_metrics.items() if value is not None}
        assert card.data.pipeline_tag == "fill-mask"
        assert card.data.model_name == f"tiny-other-{label}-seed-0"
        assert "hf-distill run tiny.yaml" in card.text
        assert str(root.parent) not in str(card)
    text = (root / by_label["two_shot"].folder / "README.md").read_text(encoding="utf-8")
    ends = [f"{by_label[label].final_metrics['masked_accuracy']:.4f}" for label in by_label]
    assert f"| masked accuracy | {' | '.join(ends)} |" in text
    assert by_label["two_shot"].began_with.commit in text
    assert all(f"| {stage.revision} |" in text for stage in record.runs[0].stages)
    assert "100 % of this model's parameters were the student's." in text
    assert "With one seed there is no spread" in text
    monkeypatch.chdir(root / by_label["two_shot"].folder)
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_a_card_is_there_when_its_fine_tuning_ends_and_not_only_when_the_run_does(done, tmp_path, monkeypatch):
    recipe = copied(done, tmp_path / "run")
    folder = tmp_path / "run/finetune/other"
    for card in folder.glob("*/*/README.md"):
        card.unlink()
    (folder / "teacher/seed-0/student_run.json").unlink()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_distill.pipeline.downstream.final_metrics", killed)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe)
    assert {card.parent.parent.name for card in folder.glob("*/*/README.md")} == {"two_shot", "from_scratch"}


@pytest.mark.slow
def test_settings_are_kept_beside_the_fine_tunings(done):
    kept = json.loads((Path(done[0].output_dir) / "finetune/other/finetune.json").read_text())
    assert kept["task"]["name"] == "masked_lm"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"task": {"name": "masked_lm", "data": {"path": "nowhere"}}}, r"finetune\[0\]\.task: data\.path: 'nowhere'"),
        ({"training": {"max_stepss": 3}}, r"finetune\[0\]\.training\.max_stepss: unknown key"),
        ({"task": {"name": "masked_lm", "max_lenght": 3}}, r"finetune\[0\]\.task\.max_lenght: unknown key"),
        ({"task": {"name": "nonsense"}}, r"finetune\[0\]\.task"),
        ({"task": {"name": "parity"}}, r"finetune\[0\]\.task, from student"),
    ],
)
def test_a_mistake_downstream_is_found_before_the_teacher_is_trained(tmp_path, change, match):
    recipe = finetuned_recipe(tmp_path, block=change)
    with pytest.raises(ValueError, match=match):
        run_recipe(recipe)
    assert not list((tmp_path / "run").glob("**/checkpoint-*"))


def test_a_task_on_text_needs_a_student_that_reads_text(tmp_path):
    recipe = parity_recipe(tmp_path / "run", finetune=[other_text(write_text(tmp_path / "text"))])
    with pytest.raises(ValueError, match=r"finetune\[0\]\.task: reads text, but the student has no tokenizer"):
        run_recipe(recipe)


def test_positions_that_do_not_reach_are_said_before_any_training(tmp_path):
    text = tmp_path / "text"
    block = other_text(text)
    block["task"]["max_length"] = 64
    model = {
        "architecture": "bert",
        "config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 16,
        },
    }
    recipe = finetuned_recipe(tmp_path, student={"model": model}, block={"task": block["task"]})
    with pytest.raises(ValueError, match=r"finetune\[0\]\.task, from student: model: reads 16 positions"):
        run_recipe(recipe)
