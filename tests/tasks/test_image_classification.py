from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.metrics import accuracy_score, top_k_accuracy_score
from transformers import EvalPrediction, ViTConfig, ViTForImageClassification

from hf_distill.tasks import TASKS, ImageClassification, TaskData
from hf_distill.tasks.image_classification import compute_metrics, patch_size

NOWHERE = Path("unused")
SMALL = {"hidden_sizes": [4, 8], "depths": [1, 1]}


def prepared(seed: int = 0, **fields: Any) -> TaskData:
    return ImageClassification(**fields).prepare(seed=seed, cache_dir=NOWHERE)


def batch_of(data: Any, count: int | None = None) -> dict[str, torch.Tensor]:
    return data.__getitems__(range(count or len(data)))[0]


def write_parquet(file: Path, *, count: int = 12, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    images = [Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(count)]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    rows = {"image": images, "label": [row % 2 for row in range(count)]}
    Dataset.from_dict(rows, features=features).to_parquet(str(file))
    return file


# ---- data ----


def test_the_digits_are_evenly_held_out_and_normalised() -> None:
    data = prepared()
    assert (len(data.train), len(data.validation)) == (1438, 359)
    train, validation = batch_of(data.train), batch_of(data.validation)
    assert train["pixel_values"].shape == (1438, 3, 8, 8)
    assert abs(train["pixel_values"].mean()) < 1e-5
    assert abs(train["pixel_values"].std(unbiased=False) - 1) < 1e-5
    shares = np.bincount(validation["labels"]) / (np.bincount(validation["labels"]) + np.bincount(train["labels"]))
    assert len(shares) == 10
    assert np.abs(shares - 0.2).max() < 0.004


def test_no_held_out_image_is_trained_on() -> None:
    rows = [
        {tuple(image.flatten().tolist()) for image in batch_of(side)["pixel_values"]}
        for side in (prepared().train, prepared().validation)
    ]
    assert [len(side) for side in rows] == [1438, 359]
    assert not rows[0] & rows[1]


def test_few_examples_keep_what_is_held_out_and_leave_no_class_out() -> None:
    few, all_of_them = prepared(train_examples=50), prepared()
    assert np.bincount(batch_of(few.train)["labels"]).tolist() == [5] * 10
    assert torch.equal(batch_of(few.validation)["labels"], batch_of(all_of_them.validation)["labels"])
    other = prepared(train_examples=50, data_seed=1)
    assert not torch.equal(batch_of(few.train)["labels"], batch_of(other.train)["labels"])


def test_training_seeds_move_images_differently_and_resumed_runs_alike() -> None:
    moves = {"crop_padding": 2, "flip": True, "copies": 4}
    zero, again, one = (batch_of(prepared(seed, **moves).train, 20)["pixel_values"] for seed in (0, 0, 1))
    assert torch.equal(zero, again)
    assert not torch.equal(zero, one)
    assert len(prepared(**moves).train) == 4 * 1438
    assert torch.equal(*(batch_of(prepared(seed, **moves).validation)["pixel_values"] for seed in (0, 1)))


def test_held_out_images_of_their_own_are_not_normalised_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "train.parquet")
    write_parquet(tmp_path / "data" / "test.parquet", count=4, seed=1)
    fields = {"data": {"hub": str(tmp_path), "validation_split": "test"}}
    data = prepared(**fields)
    assert (len(data.train), len(data.validation)) == (12, 4)
    assert data.description["labels"] == ["cat", "dog"]
    given = prepared(**fields, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.5])
    by_hand = batch_of(given.validation)["pixel_values"] * torch.tensor([0.25, 0.25, 0.5]).view(3, 1, 1) + 0.5
    bytes_of = (by_hand * 255).round()
    assert torch.equal(bytes_of, bytes_of.clamp(0, 255))
    torch.testing.assert_close(by_hand * 255, bytes_of, rtol=0, atol=1e-4)
    processor, channel = data.processing_class, batch_of(data.validation)["pixel_values"][:, 2]
    expected = (by_hand[:, 2] - processor.image_mean[2]) / processor.image_std[2]
    torch.testing.assert_close(channel, expected, rtol=0, atol=1e-5)


def test_other_data_has_another_fingerprint(tmp_path: Path) -> None:
    base = ImageClassification()
    tasks = [base, replace(base, data_seed=1), replace(base, train_examples=99), replace(base, flip=True)]
    prints = [task.prepare(seed=seed, cache_dir=NOWHERE).fingerprint for task in tasks for seed in (0, 1)]
    assert len(set(prints)) == 4
    for name in ("a", "b"):
        write_parquet(tmp_path / f"{name}.parquet")
    write_parquet(tmp_path / "c.parquet", seed=1)
    moved = [prepared(data={"path": str(tmp_path / f"{name}.parquet")}).fingerprint for name in "abc"]
    assert moved[0] == moved[1] != moved[2]


def test_a_description_shows_what_was_done() -> None:
    description = prepared(image_size=16, crop_padding=2, flip=True, copies=5).description
    assert description["preprocessing"] == (
        "16 × 16 pixels, RGB, normalised; in training shifted by up to 2 pixels and mirrored at random, 5 such copies "
        "an epoch"
    )
    assert prepared(channels=1).description["preprocessing"] == "8 × 8 pixels, grey, normalised"
    assert (description["inputs"], description["train_rows"]) == ("pixel_values", 1438)


# ---- models ----


def test_a_resnet_is_no_resnet_50_of_a_thousand_classes() -> None:
    task = ImageClassification(image_size=32)
    config = task.build_model({"architecture": "resnet"}, task.prepare(seed=0, cache_dir=NOWHERE)).config
    assert (config.layer_type, config.hidden_sizes, config.depths) == ("basic", [64, 128, 256, 512], [2, 2, 2, 2])
    assert (config.num_channels, config.embedding_size) == (3, 64)
    assert config.id2label == {number: str(number) for number in range(10)}
    assert config.label2id == {str(number): number for number in range(10)}


def test_the_resnet_of_the_recipe_keeps_no_defaults_of_another() -> None:
    task = ImageClassification(channels=1)
    spec = {"architecture": "resnet", "config": {"hidden_sizes": [8, 16, 32], "layer_type": "bottleneck"}}
    config = task.build_model(spec, task.prepare(seed=0, cache_dir=NOWHERE)).config
    assert (config.embedding_size, config.depths, config.layer_type) == (8, [2, 2, 2], "bottleneck")
    assert config.num_channels == 1


@pytest.mark.parametrize("architecture", ["resnet", "vit", "convnext"])
@pytest.mark.parametrize("size", [None, 32])
def test_a_model_that_was_built_can_read_the_images(architecture: str, size: int | None) -> None:
    task = ImageClassification(image_size=size)
    data = task.prepare(seed=0, cache_dir=NOWHERE)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    small = small if architecture == "vit" else {**SMALL, **({"num_stages": 2} if architecture == "convnext" else {})}
    model = task.build_model({"architecture": architecture, "config": small}, data).eval()
    with torch.no_grad():
        assert model(**batch_of(data.validation, 3)).logits.shape == (3, 10)


def test_small_images_are_several_patches_that_cut_no_image_in_the_middle() -> None:
    assert {size: patch_size(size) for size in (1, 8, 28, 32, 33, 64, 96, 224, 384)} == {
        **{1: 1, 8: 1, 28: 2, 32: 4},
        **{33: 3, 64: 8, 96: 12, 224: 16, 384: 16},
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"architecture": "resnet", "config": {"num_channels": 1}},
            r"reads 1 channels.*have 3\. Set task\.channels: 1",
        ),
        (
            {"architecture": "vit", "config": {"image_size": 32, "patch_size": 4}},
            r"Set task\.image_size: 32, or leave",
        ),
        ({"architecture": "resnet", "config": {"num_labels": 3}}, "has 3 classes.*, the data 10"),
        (
            {"architecture": "resnet", "config": {"id2label": {n: str(9 - n) for n in range(10)}}},
            r"has 10 classes \(9, 8, 7, …\), the data 10 \(0, 1, 2, …\), or another order",
        ),
        ({"architecture": "resnet", "config": {"hidden_sizes": [4, 8], "depths": [1]}}, "must name as many stages"),
        ({"architecture": "bert"}, "no AutoModelForImageClassification can be built from 'bert'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(spec: dict[str, Any], message: str) -> None:
    task = ImageClassification()
    with pytest.raises(ValueError, match=message):
        task.build_model(spec, task.prepare(seed=0, cache_dir=NOWHERE))


def test_weights_of_other_classes_are_not_taken_as_they_are(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    sizes |= {"image_size": 8, "patch_size": 2}
    for name, labels in (("fitting", 10), ("other", 4)):
        ViTForImageClassification(ViTConfig(**sizes, num_labels=labels)).save_pretrained(tmp_path / name)
    task = ImageClassification()
    data = task.prepare(seed=0, cache_dir=NOWHERE)
    assert task.build_model({"pretrained": str(tmp_path / "fitting")}, data).config.num_labels == 10
    with pytest.raises(ValueError, match=r"has 4 classes .*choose weights that were trained for these classes"):
        task.build_model({"pretrained": str(tmp_path / "other")}, data)


# ---- metrics ----


@pytest.mark.parametrize("classes", [3, 5, 6, 10])
def test_the_metrics_agree_with_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(97, classes)), generator.integers(0, classes, 97)
    expected = {"accuracy": accuracy_score(labels, logits.argmax(-1))}
    if classes > 5:
        expected["top_5_accuracy"] = top_k_accuracy_score(labels, logits, k=5, labels=np.arange(classes))
    for predictions in (logits, (logits, np.zeros(3))):
        metrics = compute_metrics(EvalPrediction(predictions=predictions, label_ids=labels))
        assert metrics == pytest.approx(expected, abs=1e-12)


def test_a_model_that_prefers_nothing_does_not_have_every_class_among_its_best() -> None:
    metrics = compute_metrics(EvalPrediction(predictions=np.zeros((10, 10)), label_ids=np.arange(10)))
    assert metrics == {"accuracy": 0.1, "top_5_accuracy": 0.5}


# ---- bad input ----


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "cifar"}, "expected `digits`"),
        ({"image_size": 0}, "image_size: expected at least 1, got 0"),
        ({"crop_padding": -1}, "crop_padding: expected at least 0"),
        ({"copies": 2}, "2 equal copies of each image; set crop_padding or flip too"),
        ({"train_examples": 0}, "train_examples: expected at least 1"),
        ({"channels": 2}, r"channels: expected 1 \(grey\) or 3"),
        ({"validation_fraction": 1.0}, "share between 0 and 1"),
        ({"mean": [0.1]}, "mean: expected 3 numbers"),
        ({"std": [0.1, 0.0, 0.3]}, r"std: expected 3 numbers \(std above 0\)"),
        ({"imagesize": 3}, "Did you mean `image_size`"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS.build({"name": "image_classification", **fields}, path="task")


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train_examples: 5000 asked for, but digits .* has 1438 to train on"):
        prepared(train_examples=5000)


def test_oblong_images_are_not_cut_or_stretched_unasked(tmp_path: Path) -> None:
    data = {"path": str(write_parquet(tmp_path / "x.parquet", size=(8, 6)))}
    with pytest.raises(ValueError, match=r"have 8 × 6 pixels; set task\.image_size"):
        prepared(data=data)
    assert prepared(data=data, image_size=6).description["image_size"] == 6


def test_held_out_images_of_another_size_do_not_reach_the_models(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "train.parquet")
    write_parquet(tmp_path / "data" / "test.parquet", size=(9, 9))
    with pytest.raises(ValueError, match=r"8 × 8 pixels and held-out ones others; set task\.image_size"):
        prepared(data={"hub": str(tmp_path / "data"), "validation_split": "test"})


def test_one_image_of_each_class_does_not_leave_nothing_held_out_in_silence(tmp_path: Path) -> None:
    data = {"path": str(write_parquet(tmp_path / "x.parquet", count=2))}
    with pytest.raises(ValueError, match=r"2 images of .* leave 2 to train on and 0 held out.*by validation_split"):
        prepared(data=data)
