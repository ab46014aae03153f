from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import parity_recipe, text_recipe, untaught, write_text

from hf_distill.pipeline.caching import cache_recipe
from hf_distill.pipeline.codec_report import codec_report, recipe_of


def test_codecs_are_compared_on_held_out_data_with_the_final_revision(tmp_path: Path, finished: Any) -> None:
    file = finished.copy(tmp_path / "run").save(tmp_path / "tiny.yaml")
    found = codec_report(file, [], batches=1, revision=None)
    assert (found.rows, found.vocabulary, found.revision) == (250, 2, "checkpoint-160")
    assert [figure.codec for figure in found.figures] == ["logits float32", "logits bfloat16", "logits float16"]
    early = codec_report(file, [], batches=1, revision="checkpoint-20")
    assert early.revision == "checkpoint-20"
    assert early.entropy > found.entropy
    with pytest.raises(ValueError, match="no revision 'step7'; it has checkpoint-20"):
        codec_report(file, [], batches=1, revision="step7")


@pytest.mark.slow
def test_a_vocabulary_has_all_codecs(tmp_path: Path) -> None:
    recipe = text_recipe(tmp_path / "run", write_text(tmp_path / "text"), "masked_lm")
    found = codec_report(recipe.save(tmp_path / "text.yaml"), [], batches=2, revision=None)
    kinds = {figure.spec["name"] for figure in found.figures}
    assert kinds == {"logits", "hidden", "top_k"}
    assert any(figure.on_front for figure in found.figures)


@pytest.mark.slow
def test_a_cache_stands_for_the_recipe_that_it_was_written_for(tmp_path: Path, finished: Any) -> None:
    recipe = finished.copy(tmp_path / "run")
    cache_recipe(recipe, codec={"name": "logits"})
    found = recipe_of(tmp_path / "run" / "targets", ["training.max_steps=9"])
    assert found.output_dir == str(tmp_path / "run")
    assert found.training["max_steps"] == 9
    assert codec_report(tmp_path / "run" / "targets", [], batches=1, revision=None).rows == 250


def test_a_recipe_without_a_teacher_has_nothing_to_compare(tmp_path: Path) -> None:
    file = untaught(tmp_path / "run").save(tmp_path / "plain.yaml")
    with pytest.raises(ValueError, match="learn from labels only"):
        codec_report(file, [], batches=1, revision=None)
    cached = parity_recipe(tmp_path / "run", teacher={"cached": "org/targets"}).save(tmp_path / "cached.yaml")
    with pytest.raises(ValueError, match="names cached targets only"):
        codec_report(cached, [], batches=1, revision=None)


def test_a_revision_that_will_not_be_there_is_refused_before_the_teacher_is_trained(tmp_path: Path) -> None:
    file = parity_recipe(tmp_path / "run").save(tmp_path / "tiny.yaml")
    with pytest.raises(ValueError, match="no revision 'step7'; it has checkpoint-20"):
        codec_report(file, [], batches=1, revision="step7")
    assert not list((tmp_path / "run").rglob("*.safetensors"))
