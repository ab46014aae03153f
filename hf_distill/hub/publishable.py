"""What of a model's folder may be published: weights, configuration, tokenizer. Everything else stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from hf_distill.teachers.checkpoint_files import ADAPTER, whole_checkpoint_problem
from hf_distill.teachers.weight_files import CONFIG, SAFETENSORS, json_problem, safetensors_problem, weight_files

ADAPTER_CONFIG = "adapter_config.json"
# A list of what is let through: a file that nobody thought of (optimizer, projector, arguments with a token) stays.
MODEL_FILES = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
_WEIGHTS = re.compile(
    r"(model|adapter_model)(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|pytorch_model.*\.bin"
)


def model_files(folder: str | Path) -> dict[str, Path]:
    """Return the files of a model that may be published, by name.

    Raises:
        ValueError: The folder holds no whole model with safetensors, or no whole adapter.
    """
    folder = Path(folder)
    problem = folder_problem(folder)
    if problem:
        raise ValueError(f"{folder} cannot be published: {problem}")
    if (folder / ADAPTER).is_file() and not any((folder / name).is_file() for name in SAFETENSORS):
        weights = [folder / ADAPTER, folder / ADAPTER_CONFIG]
    else:
        weights = weight_files(folder)
        weights += [folder / SAFETENSORS[1]] if weights[0].name != SAFETENSORS[0] else []
    others = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    return {path.name: path for path in [*weights, *others]}


def folder_problem(folder: Path) -> str | None:
    """Return why a folder holds no whole model or adapter, or None."""
    if (folder / ADAPTER).is_file() and not any((folder / name).is_file() for name in SAFETENSORS):
        return safetensors_problem(folder / ADAPTER) or json_problem(folder / ADAPTER_CONFIG)
    return whole_checkpoint_problem(folder)


def refuse_a_base_of_this_machine(files: Mapping[str, Path]) -> None:
    """Refuse to publish an adapter alone whose base nobody else could load.

    Args:
        files: Of the model, by name.

    Raises:
        ValueError: The base is a folder, or not named.
    """
    config = files.get(ADAPTER_CONFIG)
    if config is None:
        return
    base = str(json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    if not base or Path(base).exists() or base.startswith(("/", ".", "~")):
        raise ValueError(
            f"{config.parent} holds an adapter alone, and its base {base!r} is no repository of the Hub, so that "
            "nobody else could load it; export the student `merged`, or push the base and name its repository as "
            f"base_model_name_or_path in {ADAPTER_CONFIG}"
        )


def is_model_file(path: str) -> bool:
    """Whether a file of a repository belongs to a model, so that another model's push replaces it."""
    return path in MODEL_FILES or path == ADAPTER_CONFIG or bool(_WEIGHTS.fullmatch(path))
