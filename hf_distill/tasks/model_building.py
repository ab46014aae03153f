"""Models from a recipe's `model:` block: from a config whose every key is checked, or from pretrained weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel

from hf_distill.strict_dataclass import check_known_keys
from hf_distill.wording import did_you_mean, given

_FROM_CONFIG = ("architecture", "config")
_PRETRAINED = ("pretrained", "revision", "dtype", "trust_remote_code")
# Defined by the base class's initialiser or by PreTrainedModel, not as a field of every config class.
_ON_EVERY_CONFIG = (
    "num_labels",
    "attn_implementation",
    "output_attentions",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)

AutoClass = type[Any]
"""An `AutoModelFor...` class; they share no public base."""

Defaults = Callable[[type[PreTrainedConfig], Mapping[str, Any]], dict[str, Any]]


def build_model(
    spec: Mapping[str, Any],
    *,
    auto_class: AutoClass,
    defaults: Defaults,
    labels: Mapping[str, Any] | None = None,
    loading: Mapping[str, Any] | None = None,
    on_new: Callable[[list[str]], None] | None = None,
) -> PreTrainedModel:
    """Build the model that a `model:` block describes.

    Args:
        spec: `{"architecture": ..., "config": {...}}` or `{"pretrained": ..., "revision": ...}`.
        auto_class: The `AutoModelFor...` class with the task's head.
        defaults: From config class and given keys to values for keys that are not given.
        labels: Number and names of the answers, as a config has them, for pretrained weights that name none (a new
            head, or one whose classes are LABEL_0, LABEL_1, ...).
        loading: What `from_pretrained` is given beside, for pretrained weights.
        on_new: Called with the names of weights that pretrained ones lack, which were drawn anew.

    Raises:
        ValueError: Both or neither of the two forms, an unknown key or architecture, an architecture without this
            head, or weights that cannot be loaded; the message begins with the key under `model`.
    """
    if ("architecture" in spec) == ("pretrained" in spec):
        raise ValueError(
            f"model: expected either `architecture` (a new model) or `pretrained` (existing weights), got the keys "
            f"{', '.join(map(str, spec)) or 'none'}. Write {{architecture: bert, config: {{...}}}} or "
            "{pretrained: org/name}."
        )
    if "pretrained" in spec:
        check_known_keys(spec, _PRETRAINED, path="model")
        model, new = _load_pretrained(spec, auto_class, labels or {}, loading or {})
        if on_new is not None:
            on_new(new)
        return model
    check_known_keys(spec, _FROM_CONFIG, path="model")
    config = build_config(spec["architecture"], spec.get("config") or {}, defaults=defaults)
    try:
        return auto_class.from_config(config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        # What a config's numbers do not fit is found by torch, each in its own way.
        raise ValueError(
            f"model: no {auto_class.__name__} can be built from {spec['architecture']!r}: {str(error).splitlines()[0]}"
        ) from error


def build_config(architecture: str, keys: Mapping[str, Any], *, defaults: Defaults) -> PreTrainedConfig:
    """Build a config from the keys given and, for the rest, the task's and then the architecture's defaults.

    `transformers` keeps unknown keys silently, so that a misspelt `hiden_size` trains another model than was meant:
    every key is checked first, those of nested configs too.

    Raises:
        ValueError: Unknown architecture or key, or a value the config class refuses.
    """
    if not isinstance(architecture, str) or architecture not in CONFIG_MAPPING:
        raise ValueError(
            f"model.architecture: {given(architecture)} is no architecture of transformers."
            f"{did_you_mean(str(architecture), CONFIG_MAPPING.keys())} Examples: bert, gpt2, llama, parity_mlp; "
            "existing weights are named by `pretrained` instead."
        )
    config_class = CONFIG_MAPPING[architecture]
    _check_config_keys(config_class, keys, "model.config")
    known = config_keys(config_class)
    filled = {key: value for key, value in defaults(config_class, keys).items() if key in known}
    # A default under an alias (hidden_size) must not override the same value given by its own name (n_embd).
    own_names = {config_class.attribute_map.get(key, key) for key in keys}
    filled = {key: value for key, value in filled.items() if config_class.attribute_map.get(key, key) not in own_names}
    try:
        return AutoConfig.for_model(architecture, **filled, **keys)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ValueError(f"model.config: {config_class.__name__} refuses its values: {error}") from error


def config_keys(config_class: type[PreTrainedConfig]) -> set[str]:
    """Return the names under which values of a config class can be given, aliases included."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    return fields | set(config_class.attribute_map) | set(_ON_EVERY_CONFIG)


def config_value(config: PreTrainedConfig, key: str) -> Any:
    """Return a value of a config by its common name (`max_position_embeddings`), or None where it has no such key."""
    text_config = config.get_text_config()
    return text_config.to_dict().get(text_config.attribute_map.get(key, key))


def _names_no_classes(config: PreTrainedConfig) -> bool:
    return all(str(name).startswith("LABEL_") for name in config.id2label.values())


def _check_config_keys(config_class: type[PreTrainedConfig], keys: Mapping[str, Any], path: str) -> None:
    if not isinstance(keys, Mapping):
        raise ValueError(f"{path}: expected a mapping of config keys to values, got {given(keys)}.")
    check_known_keys(keys, sorted(config_keys(config_class)), path=path)
    for name, inner_class in config_class.sub_configs.items():
        # AutoConfig as the class of a nested config means that any architecture may stand there.
        if isinstance(keys.get(name), Mapping) and inner_class is not AutoConfig:
            _check_config_keys(inner_class, keys[name], f"{path}.{name}")


def _load_pretrained(
    spec: Mapping[str, Any], auto_class: AutoClass, labels: Mapping[str, Any], loading: Mapping[str, Any]
) -> tuple[PreTrainedModel, list[str]]:
    source, revision = spec["pretrained"], spec.get("revision")
    place = {"revision": revision or "main", "trust_remote_code": bool(spec.get("trust_remote_code", False))}
    try:
        if labels and not _names_no_classes(AutoConfig.from_pretrained(source, **place)):
            labels = {}
        model, info = auto_class.from_pretrained(
            source,
            dtype=spec.get("dtype") or "float32",
            use_safetensors=True,
            output_loading_info=True,
            **place,
            **labels,
            **loading,
        )
        return model, sorted(info["missing_keys"])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ValueError(
            f"model.pretrained: {auto_class.__name__} cannot load {source!r}{at}: {str(error).rstrip('.')}. Give the "
            "id of a Hub repository, or a folder with config.json and model.safetensors; pickled weights are not read."
        ) from error
