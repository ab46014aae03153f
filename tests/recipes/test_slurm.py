"""The Slurm script starts the launcher on every node, passes SIGTERM on, and queues a job that is to go on again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
SCRIPT = FOLDER / "slurm.sh"
SRUN = """#!/usr/bin/env bash
while [[ $1 != bash ]]; do shift; done
export SLURM_NODEID=1
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf 'node-a\\nnode-b\\n'; else echo "$@" > {folder}/scontrol; fi
"""
ACCELERATE = """#!{python}
import json, os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
shown = [os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"], os.environ["HF_HOME"]]
(folder / "words").write_text(json.dumps([sys.argv[1:], *shown]))
def end(*_):
    (folder / "saved").touch()
    sys.exit(1)  # As the launcher does, whatever its processes end with.
signal.signal(signal.SIGTERM, end)
if "wait" in sys.argv:
    with open(folder / "ready", "w") as pipe:
        pipe.write("ready")
    signal.pause()
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment with commands in the place of Slurm's and of the launcher, which say what they are told."""
    texts = {"srun": SRUN, "scontrol": SCONTROL.format(folder=tmp_path)}
    texts["accelerate"] = ACCELERATE.format(python=sys.executable, folder=str(tmp_path))
    (tmp_path / "bin").mkdir()
    for name, text in texts.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    os.mkfifo(tmp_path / "ready")
    slurm = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node-[a-b]"}
    own = {key: value for key, value in os.environ.items() if key != "HF_HOME"}
    return {**own, **slurm, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def submit(cluster: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", str(SCRIPT), *words], env=cluster, cwd=FOLDER.parents[1])


@pytest.mark.parametrize("name", ["ddp_nodes", "fsdp2", "zero3"])
def test_each_node_starts_its_own_rank_of_the_launcher(cluster, tmp_path, name):
    cluster["CONFIG"] = f"recipes/accelerate/{name}.yaml"
    assert submit(cluster, "my recipe.yaml", "--set", "seeds=[0]", "0").wait() == 0
    (command, *words), seconds, cache = json.loads((tmp_path / "words").read_text())
    assert command == "launch"
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 8, 1)
    assert (args.use_fsdp, args.use_deepspeed) == (name == "fsdp2", name == "zero3")
    assert args.module
    assert args.training_script == "hf_distill"
    assert args.training_script_args == ["run", "my recipe.yaml", "--set", "seeds=[0]", "0"]
    if name == "zero3":
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        prepare_deepspeed_cmd_env(args)
    else:
        prepare_multi_gpu_env(args)
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "4", 1)
    known = vars(args)
    assert (known.get("rdzv_endpoint") or f"{known['master_addr']}:{known['master_port']}") == "node-a:29500"
    assert 30 < float(seconds) < 120, "longer than the launcher's own, shorter than Slurm's"
    assert cache.endswith(".hf_home")
    assert not (tmp_path / "scontrol").exists()


def test_a_job_that_has_to_go_saves_and_is_queued_again(cluster, tmp_path):
    job = submit(cluster, "wait")
    assert (tmp_path / "ready").read_text() == "ready"
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 1
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "scontrol").read_text().split() == ["requeue", "77"]


@pytest.mark.parametrize(("code", "queued"), [(1, False), (143, True)])
def test_a_run_that_fails_is_not_queued_again_for_ever(cluster, tmp_path, code, queued):
    assert submit(cluster, str(code)).wait() == code
    assert (tmp_path / "scontrol").exists() == queued
