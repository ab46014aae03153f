"""What every test relies on: no network, its own Hub cache, one thread, known seeds, skips that give their reason."""

from __future__ import annotations

import os
import shutil
import tempfile

# The libraries read these when they are imported, so they are set before anything else is.
_HF_HOME = tempfile.mkdtemp(prefix="hf-distill-tests-")
os.environ.update(
    HF_HOME=_HF_HOME,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    MPLBACKEND="Agg",
)
for _name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
    os.environ.pop(_name, None)

import gc  # noqa: E402
import importlib.util  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


# So many new modules leave objects by the ten thousand (the first training of a process imports 164).
_MANY_MODULES = 20
_KNOWN_MODULES = pytest.StashKey[int]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what the imports made out of garbage collection, which every training starts and spends most time in."""
    _keep_what_imports_made(session)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Take out what a test imported, too."""
    if len(sys.modules) > item.session.stash[_KNOWN_MODULES] + _MANY_MODULES:
        _keep_what_imports_made(item.session)


def _keep_what_imports_made(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()
    session.stash[_KNOWN_MODULES] = len(sys.modules)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this process's Hub cache."""
    shutil.rmtree(_HF_HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, the tests that this machine cannot run."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_gpu():
        _skip(gpu, "no GPU on this machine")
    deepspeed = [item for item in items if item.get_closest_marker("deepspeed")]
    if importlib.util.find_spec("deepspeed") is None:
        _skip(deepspeed, "the extra [deepspeed] is missing")
    elif shutil.which("c++") is None and shutil.which("g++") is None:
        _skip(deepspeed, "no C++ compiler, with which DeepSpeed builds its extensions")


def _skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets kept beside the checkout (GLUE, WNUT-17, Multi30k)."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return folder


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed every random generator in use, so that no test depends on the ones before it."""
    value = 0
    random.seed(value)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(value)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(value)
    return value
