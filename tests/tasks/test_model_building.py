from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
)

from hf_distill.tasks.model_building import build_config, build_model, config_keys, config_value

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def no_defaults(config_class: type, given: Any) -> dict[str, Any]:
    return {}


def build(spec: dict[str, Any], auto_class: type = AutoModelForMaskedLM) -> Any:
    return build_model(spec, auto_class=auto_class, defaults=lambda config_class, given: {"vocab_size": 11})


def test_what_the_task_knows_is_filled_in() -> None:
    config = build({"architecture": "bert", "config": SMALL}).config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (11, 16, 1)


def test_the_recipe_wins_over_the_task() -> None:
    assert build({"architecture": "bert", "config": {**SMALL, "vocab_size": 20}}).config.vocab_size == 20


def test_a_default_under_its_alias_does_not_override_the_recipe() -> None:
    config = build_config("gpt2", {"n_embd": 24, "n_head": 2}, defaults=lambda *_: {"hidden_size": 8, "n_layer": 3})
    assert (config.n_embd, config.n_layer) == (24, 3)


def test_a_default_the_architecture_does_not_know_is_not_kept_as_a_stray_key() -> None:
    config = build_config("gpt2", {}, defaults=lambda *_: {"is_decoder": True, "vocab_size": 11})
    assert "is_decoder" not in config.to_dict()
    assert config.vocab_size == 11


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"architecture": "bert", "config": {"hiden_size": 3}}, r"model\.config\.hiden_size.*mean `hidden_size`"),
        ({"architecture": "brt"}, "mean `bert`"),
        ({"architecture": ["bert"]}, "no architecture of transformers"),
        ({"architecture": "bert", "config": [1]}, "expected a mapping of config keys"),
        ({"architecture": "bert", "config": {"hidden_size": "big"}}, "BertConfig refuses.*hidden_size"),
        (
            {"architecture": "bert", "config": {**SMALL, "num_attention_heads": 3}},
            "can be built from 'bert'.*multiple",
        ),
        ({"architecture": "gpt2"}, "no AutoModelForMaskedLM can be built from 'gpt2'"),
        ({"architecture": "bert", "pretrained": "x/y"}, "either `architecture`"),
        ({}, "either `architecture`.*got the keys none"),
        ({"architecture": "bert", "confg": {}}, "model.confg.*mean `config`"),
        ({"pretrained": "x/y", "config": {}}, "model.config: unknown key"),
        ({"pretrained": "x/y", "revision": "v1"}, "cannot load 'x/y' at revision 'v1'"),
    ],
)
def test_a_mistake_in_a_recipe_builds_no_model(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        build(spec)


@pytest.mark.parametrize("width", [-2, "many"])
def test_sizes_that_torch_refuses_are_told_without_its_traceback(width: Any) -> None:
    spec = {"architecture": "parity_mlp", "config": {"width": width, "input_size": 4}}
    with pytest.raises(ValueError, match=r"^model: no .* can be built from 'parity_mlp': "):
        build_model(spec, auto_class=AutoModelForSequenceClassification, defaults=no_defaults)


def test_weights_that_were_cut_off_are_named(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(vocab_size=11, **SMALL)).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"^model\.pretrained: .* cannot load .*header"):
        build({"pretrained": str(tmp_path)})


def test_a_typo_in_a_nested_config_is_not_kept_silently() -> None:
    with pytest.raises(ValueError, match=r"model\.config\.text_config\.hiden_size"):
        build_config("clip", {"text_config": {"hiden_size": 8}}, defaults=no_defaults)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "roberta", "distilbert", "modernbert", "qwen2"])
def test_a_key_that_an_architecture_saves_is_accepted(architecture: str) -> None:
    config = build_config(architecture, {}, defaults=no_defaults)
    ours = {"transformers_version", "model_type", "architectures", "dtype"}
    assert set(config.to_diff_dict()) - ours <= config_keys(type(config))


def test_pretrained_weights_are_not_changed(tmp_path: Path) -> None:
    saved = BertForMaskedLM(BertConfig(**SMALL, vocab_size=11))
    saved.save_pretrained(tmp_path)
    loaded = build({"pretrained": str(tmp_path)})
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_half_precision_weights_are_trained_in_full_precision_unless_asked(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SMALL, vocab_size=11)).to(torch.bfloat16).save_pretrained(tmp_path)
    assert build({"pretrained": str(tmp_path)}).dtype == torch.float32
    assert build({"pretrained": str(tmp_path), "dtype": "bfloat16"}).dtype == torch.bfloat16


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    model = BertForMaskedLM(BertConfig(**SMALL, vocab_size=11))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are not read"):
        build({"pretrained": str(tmp_path)})


def test_a_value_is_found_under_its_common_name() -> None:
    assert config_value(GPT2Config(n_positions=77), "max_position_embeddings") == 77
    assert config_value(BertConfig(), "max_position_embeddings") == 512
    assert config_value(GPT2Config(), "no_such_key") is None


def test_a_causal_architecture_has_a_head() -> None:
    model = build({"architecture": "gpt2", "config": {"n_embd": 8, "n_head": 2, "n_layer": 1}}, AutoModelForCausalLM)
    assert model.lm_head.out_features == 11


LABELS = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}


def classifier(folder: Path, labels: dict[str, Any] | None = LABELS) -> Any:
    return build_model(
        {"pretrained": str(folder)},
        auto_class=AutoModelForSequenceClassification,
        defaults=no_defaults,
        labels=labels,
    )


def test_a_head_on_top_of_a_language_model_has_the_named_classes(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SMALL, vocab_size=11)).save_pretrained(tmp_path)
    model = classifier(tmp_path)
    assert model.config.id2label == LABELS["id2label"]
    assert model.classifier.out_features == 3
    assert classifier(tmp_path, {"num_labels": 1, "problem_type": "regression"}).config.problem_type == "regression"


def test_the_names_of_trained_classes_are_kept(tmp_path: Path) -> None:
    names = {0: "a", 1: "b", 2: "c"}
    BertForSequenceClassification(BertConfig(**SMALL, vocab_size=11, id2label=names)).save_pretrained(tmp_path)
    assert classifier(tmp_path).config.id2label == names


def test_unnamed_classes_of_another_number_do_not_lose_their_head_in_silence(tmp_path: Path) -> None:
    BertForSequenceClassification(BertConfig(**SMALL, vocab_size=11, num_labels=5)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.pretrained: .* cannot load(?s:.*)mismatch"):
        classifier(tmp_path)
