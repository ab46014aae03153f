"""The weight files of a model folder: which they are, whether one is cut short, and the hash that names them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

CONFIG = "config.json"
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_BLOCK = 4 * 2**20
# The safetensors format itself allows no longer header.
_LONGEST_HEADER = 100_000_000


class SafetensorsHeader(NamedTuple):
    """What the start of a safetensors file says about the rest of it."""

    names: set[str]
    file_bytes: int


def weights_format(folder: Path) -> Literal["safetensors", "pickle"] | None:
    """Return how a folder's weights are stored; safetensors win where there are both, as in transformers."""
    if any((folder / name).is_file() for name in SAFETENSORS):
        return "safetensors"
    return "pickle" if any((folder / name).is_file() for name in PICKLED) else None


def weight_files(folder: str | Path) -> list[Path]:
    """Return the files that hold a folder's weights: one, or the shards of its index in the order of their names.

    Raises:
        ValueError: The folder holds no weights, or its index is unreadable or names a file outside the folder.
    """
    folder = Path(folder)
    kind = weights_format(folder)
    if kind is None:
        raise ValueError(f"{folder} holds no weights: expected {' or '.join(SAFETENSORS)}")
    single, index = SAFETENSORS if kind == "safetensors" else PICKLED
    if (folder / single).is_file():
        return [folder / single]
    return [folder / shard for shard in sorted(set(weight_map(folder / index).values()))]


def safetensors_problem(path: Path) -> str | None:
    """Return what is wrong with a safetensors file, judged by its header and size, or None."""
    size = path.stat().st_size if path.is_file() else -1
    if size <= 0:
        return f"{path.name} is {'empty' if size == 0 else 'missing'}"
    header = safetensors_header(path)
    if header is None:
        return f"{path.name} is cut short or no safetensors file: its header cannot be read ({size} bytes)"
    if header.file_bytes == size:
        return None
    word = "cut short" if size < header.file_bytes else "longer than it should be"
    return f"{path.name} is {word}: its header promises {header.file_bytes} bytes, the file has {size}"


def torch_file_problem(path: Path) -> str | None:
    """Look at a file of `torch.save` without unpickling it: a zip archive has its directory at the very end."""
    size = path.stat().st_size if path.is_file() else -1
    if size <= 0:
        return f"{path.name} is {'empty' if size == 0 else 'missing'}"
    with open(path, "rb") as stream:
        start = stream.read(2)
    if start[:1] not in (b"P", b"\x80"):
        return f"{path.name} was not written by torch.save"
    return f"{path.name} is cut short ({size} bytes)" if start == b"PK" and not zipfile.is_zipfile(path) else None


def json_problem(path: Path) -> str | None:
    """Return what is wrong with a JSON file that must hold a mapping, or None."""
    if not path.is_file():
        return f"{path.name} is missing"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return f"{path.name} is not valid JSON ({path.stat().st_size} bytes)"
    return None if isinstance(value, dict) else f"{path.name} holds no mapping"


def stamp_of(folder: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Return name, size in bytes and modification time in ns of the files that `content_hash` reads."""
    stats = [(path.name, path.stat()) for path in _content_files(Path(folder))]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def content_hash(folder: str | Path) -> str:
    """Return "sha256:<hex>" over names and bytes of the weights, their index and config.json.

    What does not change the model's output (tokenizer, optimizer, card) is left out: the same model saved by the
    Trainer in a checkpoint and at the end of training has one hash.
    """
    return _hash_of(_content_files(Path(folder)))


def weights_hash(folder: str | Path) -> str:
    """Return "sha256:<hex>" over names and bytes of the weights alone."""
    return _hash_of(weight_files(folder))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of one file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def weight_map(index: Path) -> dict[str, str]:
    """Return tensor name -> shard of an index file.

    Raises:
        ValueError: The index is unreadable or empty, or names a file outside its folder.
    """
    problem = json_problem(index)
    weights = None if problem else json.loads(index.read_text(encoding="utf-8")).get("weight_map")
    if problem or not isinstance(weights, dict) or not weights:
        raise ValueError(problem or f"{index.name} has no weight_map")
    outside = [shard for shard in weights.values() if not isinstance(shard, str) or not is_plain_name(shard)]
    if outside:
        raise ValueError(f"{index.name} names {outside[0]!r}, which is no file of its folder")
    return weights


def is_plain_name(name: str) -> bool:
    """Whether a name that came from a file or a server stays inside its folder."""
    return name not in ("", ".", "..") and PurePosixPath(name).name == name and "\\" not in name


def safetensors_header(path: Path) -> SafetensorsHeader | None:
    """Return the tensor names and the promised size of the whole file, or None where the header is unreadable."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size - 8):
            return None
        try:
            header = json.loads(stream.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        except (ValueError, AttributeError, TypeError, KeyError, IndexError):
            return None
    return SafetensorsHeader(names=set(tensors), file_bytes=8 + length + end)


def _content_files(folder: Path) -> list[Path]:
    files = weight_files(folder)
    sharded = files[0].name not in (SAFETENSORS[0], PICKLED[0])
    index = [folder / (SAFETENSORS if weights_format(folder) == "safetensors" else PICKLED)[1]] if sharded else []
    config = [folder / CONFIG] if (folder / CONFIG).is_file() else []
    return sorted([*files, *index, *config], key=lambda path: path.name)


def _hash_of(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"
