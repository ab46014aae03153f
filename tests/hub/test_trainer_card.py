"""What a trainer says of its student without a recipe: true, complete as far as it knows, and no more."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from builders import distill_trainer, examples, save_teacher_run, tiny_model
from huggingface_hub import metadata_load
from image_models import image_examples, image_model
from transformers import EvalPrediction, default_data_collator

from hf_distill.hub.trainer_card import changed_arguments, metric_of, save_trainer_card, trainer_record
from hf_distill.run_record import RunRecord
from hf_distill.tasks.image_examples import Colours, image_processor
from hf_distill.teachers import TeacherSequence


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("run")
    made = distill_trainer(
        folder / "student",
        teacher=TeacherSequence(save_teacher_run(folder / "teacher")),
        curriculum={"name": "two_shot", "revision": "checkpoint-20", "steps": 2},
        eval_dataset=examples("classification", count=6, seed=3),
        eval_strategy="steps",
        eval_steps=2,
        compute_metrics=accuracy,
        hub_token="hf_" + "x" * 30,
    )
    made.train()
    return made


def test_training_leaves_a_record_that_the_report_can_read(trainer) -> None:
    record = RunRecord.load(trainer.args.output_dir)
    assert record.task["metric"] == "accuracy"
    assert [stage.revision for stage in record.runs[0].stages] == ["checkpoint-20", "checkpoint-30"]
    assert [revision.name for revision in record.revisions()] == ["checkpoint-10", "checkpoint-20", "checkpoint-30"]
    assert record.runs[0].final_metrics.keys() == {"accuracy", "loss"}
    assert record.finished is not None


def test_the_record_holds_changed_settings_and_no_token_or_folder(trainer) -> None:
    text = json.dumps(trainer_record(trainer).to_dict())
    assert "hf_x" not in text
    settings = changed_arguments(trainer.args)
    assert settings["learning_rate"] == 0.1
    assert settings["optim"] == "sgd"
    assert not {"output_dir", "hub_token", "weight_decay", "adam_beta1"} & settings.keys()


def test_card_of_a_python_user_claims_no_recipe_and_names_the_curriculum(trainer) -> None:
    path = save_trainer_card(trainer, license="mit", tags=["mine"], datasets=["acme/pairs"], model_name="small")
    text = path.read_text(encoding="utf-8")
    metadata = metadata_load(path)
    assert metadata["license"] == "mit"
    assert metadata["datasets"] == ["acme/pairs"]
    assert metadata["tags"][-1] == "mine"
    assert metadata["model-index"][0]["name"] == "small"
    assert "Trained from Python with `ProgressiveDistillTrainer`" in text
    assert "hf-distill run" not in text
    assert "checkpoint-20" in text and "two_shot" in text
    assert str(Path(trainer.args.output_dir).parent) not in text


@pytest.mark.parametrize("with_processor", [False, True])
def test_the_card_of_an_image_classifier_shows_how_to_read_text(tmp_path, with_processor) -> None:
    processor = image_processor(size=16, colours=Colours((0.5,) * 3, (0.5,) * 3)) if with_processor else None
    trainer = distill_trainer(
        tmp_path,
        model=image_model("convnext", seed=1),
        train_dataset=image_examples(),
        data_collator=default_data_collator,
        processing_class=processor,
    )
    trainer.train()
    path = save_trainer_card(trainer)
    text = path.read_text(encoding="utf-8")
    assert "AutoModelForImageClassification.from_pretrained" in text
    assert ("AutoImageProcessor" in text) == with_processor
    assert metadata_load(path).get("pipeline_tag") == ("image-classification" if with_processor else None)


@pytest.mark.parametrize(
    ("chosen", "greater", "metrics", "expected"),
    [
        (None, None, {"loss": 1.0, "f1": 0.5}, ("f1", True)),
        (None, None, {"loss": 1.0}, ("loss", False)),
        (None, None, {}, ("loss", False)),
        ("eval_f1", None, {"loss": 1.0, "acc": 0.1, "f1": 0.5}, ("f1", True)),
        ("perplexity", False, {"perplexity": 9.0}, ("perplexity", False)),
    ],
)
def test_the_metric_is_the_one_that_was_set_or_the_first(tmp_path, chosen, greater, metrics, expected) -> None:
    args = distill_trainer(tmp_path, metric_for_best_model=chosen, greater_is_better=greater).args
    assert metric_of(args, metrics) == expected


def test_a_trainer_that_has_not_trained_has_no_record(tmp_path) -> None:
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2))
    with pytest.raises(ValueError, match="before train"):
        trainer_record(trainer)


def test_pickled_arguments_hold_no_token(trainer) -> None:
    assert trainer.args.hub_token is not None
    assert trainer.args.hub_token.encode() not in pickle.dumps(trainer.args)
