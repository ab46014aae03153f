"""Bad input is an error that says what to do, before anything is trained, and it costs nothing that was there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, tiny_model
from huggingface_hub import constants
from teacher_folders import cache_model, cut
from tiny_recipes import SGD, parity_mapping, text_recipe, untaught, write_text
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, GPT2LMHeadModel

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def bert(folder: Path, *, seed: int = 0, cls: type = BertForSequenceClassification, **config: Any) -> Path:
    """Save a teacher for parity of 6 bits: 3 token ids, 2 classes."""
    torch.manual_seed(seed)
    values = {"vocab_size": 3, "max_position_embeddings": 6, "num_labels": 2, "pad_token_id": 2}
    cls(BertConfig(**{**BERT, **values, **config})).save_pretrained(folder)
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    for step in (10, 20, 30):
        bert(tmp_path / "teacher" / f"checkpoint-{step}", seed=step)
    return tmp_path / "teacher"


def taught(output_dir: Path, source: str | Path | list[str], **changes: Any) -> Recipe:
    """Return a recipe of two students, labels first, and a teacher that is there already."""
    fields: dict[str, Any] = {
        "task": {"name": "parity", "d": 6, "k": 2, "inputs": "tokens", "validation_examples": 32},
        "teacher": {"source": source if isinstance(source, list) else str(source)},
        "student": {"model": {"architecture": "bert", "config": BERT}},
        "compare": {"labels": {"name": "labels"}, "one_shot": {"name": "one_shot"}},
        "training": {**SGD, "max_steps": 2, "eval_steps": 2, "save_steps": 2, "per_device_train_batch_size": 4},
        "level": None,
    }
    return Recipe.from_dict(parity_mapping(output_dir, **{**fields, **changes}))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(tmp_path: Path, run: Callable[[], Any], match: str) -> None:
    """Check that `run` is refused with the message, that nothing was trained and that nothing was lost."""
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=match) as error:
        run()
    assert len(str(error.value)) > 30, "an error says what to do"
    after = contents(tmp_path)
    assert {name: after.get(name) for name in before} == before
    made = sorted(set(after) - set(before))
    assert not [name for name in made if name.endswith((".safetensors", ".pt", ".bin", "student_run.json"))], made


# ---- the teacher ----


@pytest.mark.slow
def test_a_sound_recipe_is_not_refused(tmp_path, teacher):
    assert [run.curriculum for run in run_recipe(taught(tmp_path / "run", teacher)).runs] == ["labels", "one_shot"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "listed"),
    [("checkpoint-40", "checkpoint-30, checkpoint-20, checkpoint-10"), ("step*", "checkpoint-10")],
)
def test_a_missing_revision_of_a_folder_lists_those_that_exist(tmp_path, teacher, asked, listed):
    recipe = taught(tmp_path / "run", f"{teacher}@{asked}")
    assert_refused(
        tmp_path, lambda: run_recipe(recipe), rf"has no folder '{asked.replace('*', '[*]')}'. There: .*{listed}"
    )


@pytest.mark.slow
def test_a_missing_revision_of_a_repository_lists_those_that_exist(tmp_path, teacher):
    cache = Path(constants.HF_HUB_CACHE)
    storage = cache_model(cache, "bad-input/teacher", {"step10": teacher / "checkpoint-10", "main": None})
    recipe = taught(tmp_path / "run", "bad-input/teacher@step11")
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"step11.*step10")
    shutil.rmtree(storage)


def test_a_missing_revision_of_a_curriculum_lists_those_that_exist(tmp_path, teacher):
    compare = {"labels": {"name": "labels"}, "x": {"name": "two_shot", "revision": 25, "steps": 1}}
    recipe = taught(tmp_path / "run", teacher, compare=compare)
    listed = "no revision 25; it has checkpoint-10, checkpoint-20, checkpoint-30"
    assert_refused(tmp_path, lambda: run_recipe(recipe), listed)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    recipe = taught(tmp_path / "run", tmp_path / "nowhere")
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"nowhere is not there; expected a folder")


def test_a_half_written_checkpoint_is_named_and_not_passed_over(tmp_path, teacher):
    cut(teacher / "checkpoint-20" / "model.safetensors", 500)
    recipe = taught(tmp_path / "run", teacher)
    assert_refused(
        tmp_path, lambda: run_recipe(recipe), r"checkpoint-20 .* not a whole checkpoint.*Delete that folder"
    )
    (teacher / "checkpoint-20" / "model.safetensors").unlink()
    assert_refused(
        tmp_path, lambda: run_recipe(recipe), r"checkpoint-20 .* not a whole checkpoint: it holds no weights"
    )


@pytest.mark.slow
def test_pickled_weights_are_refused_with_the_way_out(tmp_path, teacher):
    folder = teacher / "checkpoint-20"
    model = BertForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    recipe = taught(tmp_path / "run", teacher)
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"pickled weights only.*`allow_pickled_weights`")
    allowed = {"source": str(teacher), "allow_pickled_weights": True}
    assert run_recipe(taught(tmp_path / "run", teacher, teacher=allowed)).runs


def test_a_pickled_student_is_refused(tmp_path, teacher):
    folder = tmp_path / "pickled"
    model = BertForSequenceClassification.from_pretrained(teacher / "checkpoint-10")
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    recipe = taught(tmp_path / "run", teacher, student={"model": {"pretrained": str(folder)}})
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"model\.pretrained: .*pickled weights are not read")


@pytest.mark.parametrize(
    ("cls", "said"),
    [(BertForMaskedLM, "teacher, BertForMaskedLM, a masked_lm head"), (GPT2LMHeadModel, "a causal_lm head")],
)
def test_a_teacher_with_another_head_is_refused(tmp_path, cls, said):
    if cls is GPT2LMHeadModel:
        tiny_model("causal_lm").save_pretrained(tmp_path / "teacher")
    else:
        bert(tmp_path / "teacher", cls=cls)
    recipe = taught(tmp_path / "run", tmp_path / "teacher")
    assert_refused(tmp_path, lambda: run_recipe(recipe), rf"{said}.*Use a teacher with a classification head")


def test_a_teacher_with_another_number_of_labels_is_refused(tmp_path):
    recipe = taught(tmp_path / "run", bert(tmp_path / "teacher", num_labels=3))
    assert_refused(
        tmp_path, lambda: run_recipe(recipe), r"student has 2 labels and the teacher 3.*teacher's num_labels"
    )


def test_a_teacher_with_other_labels_is_refused(tmp_path):
    folder = bert(tmp_path / "teacher", id2label={0: "even", 1: "odd"}, label2id={"even": 0, "odd": 1})
    config = {**BERT, "id2label": {"0": "odd", "1": "prime"}, "label2id": {"odd": 0, "prime": 1}}
    recipe = taught(tmp_path / "run", folder, student={"model": {"architecture": "bert", "config": config}})
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"\['odd', 'prime'\] against \['even', 'odd'\]")


def test_revisions_of_two_architectures_are_refused_before_a_student_is_trained(tmp_path, teacher):
    shutil.rmtree(teacher / "checkpoint-20")
    bert(teacher / "checkpoint-20", hidden_size=4)
    recipe = taught(tmp_path / "run", teacher)
    assert_refused(
        tmp_path, lambda: run_recipe(recipe), r"'checkpoint-20' .* does not fit .*must have one architecture"
    )


# ---- text ----


@pytest.fixture(scope="module")
def text_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked-LM teacher with its tokenizer, trained by a recipe of its own."""
    folder = tmp_path_factory.mktemp("text")
    run_recipe(text_recipe(folder / "run", write_text(folder / "text"), "masked_lm"))
    return folder


@pytest.mark.slow
def test_different_tokenizers_are_refused(tmp_path, text_teacher):
    other = write_text(tmp_path / "text")
    (other / "more.txt").write_text("zebra quagga okapi kudu gnu " * 200)
    source = {"source": str(text_teacher / "run" / "teacher")}
    recipe = text_recipe(tmp_path / "run", other, "masked_lm", teacher=source)
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"different tokenizers|split text differently")


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(384, None), (None, 384)], ids=["wide teacher", "wide student"])
def test_padded_vocabularies_of_different_width_are_handled(tmp_path, text_teacher, widths):
    recipe = text_recipe(tmp_path / "run", text_teacher / "text", "masked_lm")
    mapping = recipe.to_dict()
    for block, width in zip((mapping["teacher"]["train"], mapping["student"]), widths, strict=True):
        block["model"] = {**block["model"], "config": dict(block["model"]["config"])}
        if width is not None:
            block["model"]["config"]["vocab_size"] = width
    (run,) = run_recipe(Recipe.from_dict(mapping)).runs
    assert run.final_metrics["loss"] < 7.0
    assert all(point["loss"] is not None for point in run.training_log)


@pytest.mark.parametrize("text", ["", "one two three"], ids=["empty file", "shorter than a block"])
def test_too_little_text_is_refused(tmp_path, text):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    recipe = text_recipe(tmp_path / "run", folder, "masked_lm")
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"^data.*(Give more|no text in)")


# ---- the data ----


def test_an_empty_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="training data set is empty; check the split, the filters"):
        distill_trainer(tmp_path, train_dataset=[])
    with pytest.raises(ValueError, match="pass a train_dataset to the trainer"):
        distill_trainer(tmp_path, train_dataset=None).train()


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
@pytest.mark.parametrize("curriculum", ["labels", "one_shot"])
def test_an_all_masked_data_set_is_refused_before_the_first_step(tmp_path, head, curriculum):
    masked = examples(head)
    for example in masked:
        example["labels"] = torch.full_like(example["labels"], -100)
    teacher = tiny_model(head, seed=2) if curriculum == "one_shot" else None
    trainer = distill_trainer(
        tmp_path, head, train_dataset=masked, teacher=teacher, weight_decay=0.1, save_strategy="steps", save_steps=1
    )
    before = flat_weights(trainer.model)
    with pytest.raises(ValueError, match=r"not one labelled item \(every label is -100\).*check the collator"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert torch.equal(flat_weights(trainer.model), before)
    assert not list(tmp_path.iterdir())


# ---- the recipe ----


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"curriculums": {"name": "labels"}}, r"^curriculums: unknown key\. Did you mean `curriculum`"),
        ({"task": {"name": "parityy"}}, r"Unknown task 'parityy'\. Did you mean 'parity'"),
        ({"task": {"name": "parity", "dimension": 6, "kk": 2}}, r"^task\.dimension: unknown key"),
        ({"task": {"name": "parity", "validation_exampels": 2}}, r"Did you mean `validation_examples`"),
        ({"task": {"name": "parity", "d": "six"}}, r"^task\.d: expected int, got 'six'"),
        ({"curriculum": {"name": "two_shott"}}, r"Unknown curriculum 'two_shott'\. Did you mean 'two_shot'"),
        ({"curriculum": {"name": "two_shot", "stpes": 3}}, r"^curriculum\.stpes: unknown key\. Did you mean `steps`"),
        ({"curriculum": {"name": "two_shot", "steps": 1, "share": 0.5}}, "give either `steps` or `share`"),
        ({"curriculum": {"name": "one_shot", "objectives": [{"name": "forwrd_kl"}]}}, "Did you mean 'forward_kl'"),
        (
            {"curriculum": {"name": "one_shot", "objectives": [{"name": "forward_kl", "temprature_on": "both"}]}},
            r"objectives\[0\]\.temprature_on: unknown key\. Did you mean `temperature_on`",
        ),
        (
            {"curriculum": {"name": "one_shot", "temperature": {"name": "liner", "start": 1, "end": 2}}},
            r"Did you mean 'linear'",
        ),
        ({"training": {"lerning_rate": 0.1}}, r"^training\.lerning_rate: unknown key\. Did you mean `learning_rate`"),
        ({"training": {"learning_rate": "high"}}, r"^training\.learning_rate: expected float, got 'high'"),
        ({"training": {"output_dir": "x"}}, r"^training\.output_dir: .*use the recipe's top-level `output_dir`"),
        ({"student": {"model": {"architecture": "bertt"}}}, r"model\.architecture: .*Did you mean `bert`"),
        (
            {"student": {"model": {"architecture": "bert", "config": {"hiden_size": 8}}}},
            r"model\.config\.hiden_size: unknown key\. Did you mean `hidden_size`",
        ),
        ({"student": {"modle": {}}}, r"^student\.modle: unknown key\. Did you mean `model`"),
        ({"teacher": {"sourse": "x"}}, r"^teacher\.sourse: unknown key\. Did you mean `source`"),
        ({"teacher": None, "curriculum": {"name": "one_shot"}}, r"^teacher: missing, but curriculum is 'one_shot'"),
        ({"compare": {"labels": {"name": "labels"}}}, "`curriculum` is given too"),
        ({"seeds": [0, 0]}, "^seeds"),
    ],
    ids=lambda value: str(value)[:70] if isinstance(value, dict) else "",
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_the_key(tmp_path, teacher, changes, said):
    fields = {"compare": None, "curriculum": {"name": "one_shot"}, **changes}
    assert_refused(tmp_path, lambda: run_recipe(taught(tmp_path / "run", teacher, **fields)), said)


# ---- the output folder ----


def test_a_folder_that_holds_another_run_is_refused_and_kept(tmp_path, teacher):
    run_recipe(taught(tmp_path / "run", teacher))
    other = taught(tmp_path / "run", teacher, seeds=[1])
    assert_refused(tmp_path, lambda: run_recipe(other), r"holds a run of another recipe.*--set output_dir=")
    assert len(RunRecord.load(tmp_path / "run").runs) == 2


def test_a_folder_with_foreign_files_is_refused_and_kept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    recipe = untaught(tmp_path / "run")
    assert_refused(tmp_path, lambda: run_recipe(recipe), r"not empty, but holds no hf_distill run.*--set output_dir=")
    assert contents(tmp_path / "run") == {"thesis.tex": b"years of work"}


def test_a_teachers_folder_is_no_output_folder(tmp_path, teacher):
    recipe = taught(teacher, teacher)
    assert_refused(tmp_path, lambda: run_recipe(recipe), "not empty, but holds no hf_distill run")
