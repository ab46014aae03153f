from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.datasets import load_digits

from hf_distill.tasks.image_examples import Framing
from hf_distill.tasks.image_sources import (
    Digits,
    HubImages,
    LocalImages,
    class_names,
    class_numbers,
    image_source,
)

COLOURS = {"cat": (200, 0, 0), "dog": (0, 200, 0), "emu": (0, 0, 200)}
FRAME = Framing(channels=3, size=None)


def write_folder(root: Path, *, per_class: int = 2, size: tuple[int, int] = (6, 6)) -> Path:
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", size, colour).save(root / name / f"{number}.png")
    return root


def write_table(file: Path, labels: list[Any], *, feature: Any, image: str = "img") -> Path:
    """A .parquet as the Hub has them: images as PNG inside."""
    pictures = [Image.new("L", (4, 4), 10 * row) for row in range(len(labels))]
    features = Features({image: ImageFeature(), "fine_label": feature})
    Dataset.from_dict({image: pictures, "fine_label": labels}, features=features).to_parquet(str(file))
    return file


def test_no_source_is_taken_for_another() -> None:
    assert image_source("digits") == Digits()
    assert image_source({"path": "x", "split": "test"}) == LocalImages(path="x", split="test")
    assert image_source({"hub": "o/n", "image_column": "img"}) == HubImages(hub="o/n", image_column="img")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "mean `digits`"),
        ({"folder": "x"}, r"expected `digits`, \{path"),
        ({"path": "x", "colum": "c"}, r"data\.colum: unknown key"),
        ({"hub": "o/n", "label_colum": "c"}, r"data\.label_colum.*mean `label_column`"),
        (None, "got null"),
    ],
)
def test_a_typo_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_source(spec)


def test_the_digits_are_scikit_learns() -> None:
    read = Digits().read(Framing(channels=1, size=None))
    shades, labels = load_digits(return_X_y=True)
    assert read.train.pixels_NHWC.shape == (1797, 8, 8, 1)
    # 17 shades spread over 256: at most half a step of rounding.
    np.testing.assert_allclose(read.train.pixels_NHWC.reshape(-1, 64) / 255, shades / 16, atol=0.5 / 255)
    np.testing.assert_array_equal(read.train.labels_N, labels)
    assert read.names == list("0123456789")
    assert (read.validation, read.datasets) == (None, [])


def test_a_folder_is_read_with_its_classes_in_their_places(tmp_path: Path) -> None:
    read = LocalImages(path=str(write_folder(tmp_path))).read(FRAME)
    assert read.names == sorted(COLOURS)
    assert read.train.pixels_NHWC.shape == (6, 6, 6, 3)
    for pixels, label in zip(read.train.pixels_NHWC, read.train.labels_N, strict=True):
        assert tuple(pixels[2, 3]) == COLOURS[read.names[label]]


def test_held_out_images_of_their_own_are_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", per_class=2)
    write_folder(tmp_path / "test", per_class=1)
    read = LocalImages(path=str(tmp_path), validation_split="test").read(FRAME)
    assert read.validation is not None
    assert (len(read.train.labels_N), len(read.validation.labels_N)) == (6, 3)
    with pytest.raises(ValueError, match=r"(?s)data\.path: cannot read the split 'dev'.*Unknown split"):
        LocalImages(path=str(tmp_path), validation_split="dev").read(FRAME)


def test_a_table_is_read_with_its_columns_and_names(tmp_path: Path) -> None:
    file = write_table(tmp_path / "x.parquet", [1, 0, 1], feature=ClassLabel(names=["off", "on"]))
    fields = {"image_column": "img", "label_column": "fine_label"}
    read = LocalImages(path=str(file), **fields).read(FRAME)
    assert (read.names, read.train.labels_N.tolist()) == (["off", "on"], [1, 0, 1])
    assert read.train.pixels_NHWC[:, 0, 0].tolist() == [[0] * 3, [10] * 3, [20] * 3], "grey is repeated"
    of_hub = HubImages(hub=str(tmp_path), split="train[1:]", **fields).read(Framing(channels=1, size=2))
    assert of_hub.train.pixels_NHWC.tolist() == [[[[10]] * 2] * 2, [[[20]] * 2] * 2]
    assert of_hub.datasets == [str(tmp_path)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"label_column": "fine_label"},
            r"data\.image_column: .* has no column 'image'.*Its columns: img, fine_label",
        ),
        ({"image_column": "img"}, r"data\.label_column: .* has no column 'label'\."),
        ({"image_column": "fine_label", "label_column": "fine_label"}, r"holds no images but .*ClassLabel.*: img, fi"),
        ({"image_column": "img", "label_column": "fine_label", "split": "train[:0]"}, r"'train\[:0\]' .* no data"),
    ],
)
def test_a_wrong_column_and_an_empty_split_are_refused(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    file = write_table(tmp_path / "x.parquet", [0, 1], feature=ClassLabel(names=["off", "on"]))
    with pytest.raises(ValueError, match=message):
        LocalImages(path=str(file), **fields).read(FRAME)


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        (
            [0, -1],
            ClassLabel(names=["off", "on"]),
            r"row 1 of .* has the label -1.* none of the 2 classes \(off, on\)",
        ),
        ([0, None], ClassLabel(names=["off", "on"]), "row 1 .* the label None"),
        ([3, -2], Value("int64"), "the label -2, which is none of the 4 classes"),
        (["a", None], Value("string"), "the label None, which is none of the 1 classes"),
        ([0.5, 1.0], Value("float64"), "the label 0.5"),
    ],
)
def test_a_label_that_is_no_class_is_refused(tmp_path: Path, labels: Any, feature: Any, message: str) -> None:
    file = write_table(tmp_path / "x.parquet", labels, feature=feature)
    with pytest.raises(ValueError, match=message):
        LocalImages(path=str(file), image_column="img", label_column="fine_label").read(FRAME)


def test_classes_are_not_numbered_by_the_rows_that_come_first() -> None:
    assert class_names(Value("string"), ["b", "a", "b"]) == ["a", "b"]
    assert class_names(Value("int64"), [2, 0]) == ["0", "1", "2"]
    assert class_numbers(["b", "a"], ["a", "b"], where="x").tolist() == [1, 0]
    with pytest.raises(ValueError, match="row 0 of x has the label 'c'"):
        class_numbers(["c"], ["a", "b"], where="x")


@pytest.mark.parametrize("content", [b"", b"not a picture", "cut short"], ids=["empty", "no image", "cut short"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | str) -> None:
    broken = write_folder(tmp_path) / "dog" / "0.png"
    broken.write_bytes(broken.read_bytes()[:45] if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=r"image 2 of images of .*, train \(.*dog/0\.png\) cannot be read"):
        LocalImages(path=str(tmp_path)).read(FRAME)


def test_images_of_several_sizes_are_accepted_where_a_size_is_given(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.new("RGB", (9, 5)).save(tmp_path / "emu" / "9.png")
    with pytest.raises(ValueError, match=r"images 0 and 6 of .* have 6 × 6 and 9 × 5 pixels; set task\.image_size"):
        LocalImages(path=str(tmp_path)).read(FRAME)
    read = LocalImages(path=str(tmp_path)).read(Framing(channels=3, size=4))
    assert read.train.pixels_NHWC.shape == (7, 4, 4, 3)


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path: .*none' does not exist; expected a folder with a folder"):
        LocalImages(path=str(tmp_path / "none")).read(FRAME)
    with pytest.raises(ValueError, match=r"data\.path: cannot read the split 'train'"):
        LocalImages(path=str(tmp_path)).read(FRAME)
    empty = write_table(tmp_path / "x.parquet", [], feature=ClassLabel(names=["off", "on"]), image="image")
    with pytest.raises(ValueError, match=r"cannot read the split 'train' of .*x\.parquet': .* no data"):
        LocalImages(path=str(empty), label_column="fine_label").read(FRAME)


def test_a_data_set_out_of_reach_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"(?s)'org/none'.*hf download.*or train on `digits`, or on local files"):
        HubImages(hub="org/none").read(FRAME)
