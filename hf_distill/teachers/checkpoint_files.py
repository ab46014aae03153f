"""Whether a model folder or a Trainer checkpoint is whole, judged without reading a tensor or a pickle."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from hf_distill.teachers.weight_files import (
    CONFIG,
    PICKLED,
    SAFETENSORS,
    is_plain_name,
    json_problem,
    safetensors_header,
    safetensors_problem,
    torch_file_problem,
    weight_files,
    weight_map,
    weights_format,
)

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
ADAPTER = "adapter_model.safetensors"
TRAINER_STATE = "trainer_state.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")


def file_list_problem(names: Collection[str], *, allow_pickled_weights: bool = False) -> str | None:
    """Return why the files of one folder cannot be a model, judged by their names alone, or None.

    Args:
        names: File names relative to the folder.
        allow_pickled_weights: Accept `pytorch_model.bin` where there are no safetensors.
    """
    if pickled_only(names):
        if not allow_pickled_weights:
            return (
                "it holds pickled weights only (pytorch_model.bin), which can run code when they are read. Convert "
                "them to safetensors, or set `allow_pickled_weights` if you trust their author"
            )
    elif not any(name in names for name in SAFETENSORS):
        if ADAPTER in names:
            return f"it holds an adapter only ({ADAPTER}); merge it into its base model and save that"
        return f"it holds no weights: neither {' nor '.join(SAFETENSORS)}"
    return None if CONFIG in names else f"{CONFIG} is missing"


def pickled_only(names: Collection[str]) -> bool:
    """Whether the weights among these files are pickled and nothing else."""
    return any(name in names for name in PICKLED) and not any(name in names for name in SAFETENSORS)


def whole_checkpoint_problem(folder: str | Path, *, allow_pickled_weights: bool = False) -> str | None:
    """Return what is missing or cut short in a model folder, or None where it is whole.

    Every safetensors file is compared with the size that its header promises, every shard of an index with the names
    it should hold; no tensor is read.

    Args:
        folder: What `save_pretrained` or the Trainer wrote.
        allow_pickled_weights: Accept `pytorch_model.bin` where there are no safetensors.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "it is not a folder"
    names = {entry.name for entry in folder.iterdir()}
    return (
        file_list_problem(names, allow_pickled_weights=allow_pickled_weights)
        or json_problem(folder / CONFIG)
        or _weights_problem(folder)
    )


def trainer_checkpoint_problem(folder: str | Path, *, save_only_model: bool = False) -> str | None:
    """Return why training cannot be resumed from a Trainer checkpoint, or None where it is whole.

    The Trainer writes trainer_state.json last, so that a readable one stands for everything rank 0 saved. DeepSpeed
    and FSDP keep their own files: there, only what they need to start is looked for.

    Args:
        folder: A `checkpoint-<step>` folder.
        save_only_model: The run keeps no optimizer, scheduler and random states.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "it is not a folder"
    names = {entry.name for entry in folder.iterdir()}
    sharded = "latest" in names or any(name.startswith("pytorch_model_fsdp") for name in names)
    problem = _trainer_state_problem(folder)
    if problem is None and not sharded:
        problem = safetensors_problem(folder / ADAPTER) if ADAPTER in names else whole_checkpoint_problem(folder)
    if problem is None and not save_only_model:
        problem = _training_files_problem(folder, names, sharded=sharded)
    return problem


def find_last_whole_checkpoint(output_dir: str | Path, *, save_only_model: bool = False) -> Path | None:
    """Return the newest checkpoint that training can resume from, or None; warn of each newer one that is not whole.

    Args:
        output_dir: The Trainer's output folder; it may not exist yet.
        save_only_model: See `trainer_checkpoint_problem`.
    """
    for folder in reversed(checkpoints_in(output_dir)):
        problem = trainer_checkpoint_problem(folder, save_only_model=save_only_model)
        if problem is None:
            return folder
        logger.warning("Passing over %s, it is not a whole checkpoint: %s", folder, problem)
    return None


def checkpoints_in(output_dir: str | Path) -> list[Path]:
    """Return the `checkpoint-<step>` folders of a Trainer output folder, by step; empty where there are none."""
    output_dir = Path(output_dir)
    if not output_dir.is_dir():
        return []
    found = [(match, path) for path in output_dir.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda item: int(item[0][1])) if path.is_dir()]


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder brings its tokenizer."""
    return any((Path(folder) / name).is_file() for name in TOKENIZER)


def _weights_problem(folder: Path) -> str | None:
    try:
        files = weight_files(folder)
    except ValueError as error:
        return str(error)
    if weights_format(folder) == "pickle":
        return next(filter(None, map(torch_file_problem, files)), None)
    problem = next(filter(None, map(safetensors_problem, files)), None)
    index = folder / SAFETENSORS[1]
    if problem is None and files[0].name != SAFETENSORS[0]:
        problem = _index_problem(index)
    return problem


def _index_problem(index: Path) -> str | None:
    held: dict[str, set[str]] = {}
    for tensor, shard in weight_map(index).items():
        if shard not in held:
            header = safetensors_header(index.parent / shard)
            held[shard] = header.names if header else set()
        if tensor not in held[shard]:
            return f"{shard} does not hold {tensor}, which {index.name} says it does"
    return None


def _trainer_state_problem(folder: Path) -> str | None:
    problem = json_problem(folder / TRAINER_STATE)
    if problem:
        return f"{problem}; the Trainer writes it last, so the checkpoint was not finished"
    step = json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8")).get("global_step")
    match = CHECKPOINT_NAME.fullmatch(folder.name)
    if not isinstance(step, int) or (match and int(match[1]) != step):
        return f"{TRAINER_STATE} is of step {step}, which is not that of the folder's name"
    return None


def _training_files_problem(folder: Path, names: Iterable[str], *, sharded: bool) -> str | None:
    random_states = sorted(name for name in names if re.fullmatch(r"rng_state(_\d+)?\.pth", name))
    if not random_states:
        return "rng_state.pth is missing"
    ranks = {name for name in random_states if name != "rng_state.pth"}
    absent = [f"rng_state_{rank}.pth" for rank in range(len(ranks)) if f"rng_state_{rank}.pth" not in ranks]
    if absent:
        return f"{absent[0]} is missing beside {random_states[-1]}"
    files = random_states if sharded else ["optimizer.pt", "scheduler.pt", *random_states]
    problem = next(filter(None, (torch_file_problem(folder / name) for name in files)), None)
    if problem is None and sharded:
        problem = _deepspeed_problem(folder, len(random_states)) if "latest" in names else _fsdp_problem(folder)
    return problem


def _deepspeed_problem(folder: Path, ranks: int) -> str | None:
    tag = (folder / "latest").read_text(encoding="utf-8").strip()
    states = sorted((folder / tag).glob("*optim_states.pt")) if is_plain_name(tag) else []
    if not states:
        return f"the DeepSpeed states that `latest` points to ({tag!r}) are missing"
    if len(states) < ranks:
        return f"{tag} holds the DeepSpeed states of {len(states)} of {ranks} processes"
    return next(filter(None, map(torch_file_problem, sorted((folder / tag).glob("*.pt")))), None)


def _fsdp_problem(folder: Path) -> str | None:
    """Look at weights and optimizer: each a file, or a folder of parts whose `.metadata` is written last."""
    found = [path for what in ("pytorch_model_fsdp", "optimizer") for path in folder.glob(f"{what}*")]
    for path in found:
        parts = path.is_dir()
        if parts and not (path / ".metadata").is_file():
            return f"{path.name} was not finished: its .metadata is missing"
        if not parts and (problem := torch_file_problem(path)):
            return problem
    if not any(path.name.startswith("optimizer") for path in found):
        return "the optimizer's states of FSDP are missing"
    return torch_file_problem(folder / "scheduler.pt")
