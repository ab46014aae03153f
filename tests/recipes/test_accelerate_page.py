"""What the page of launch configurations tells people to type can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from hf_distill.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "accelerate"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
MODULE = ["-m", "hf_distill", "run", "RECIPE"]


def typed(start: str) -> list[list[str]]:
    """The words behind each command of a kind, on the page's blocks and in its text, without comments."""
    spans = re.findall(rf"`({re.escape(start)} [^`\n]+)`", PAGE)
    lines = [line for line in [*LINES, *spans] if line.startswith(start)]
    return [shlex.split(line, comments=True)[len(start.split()) :] for line in lines]


@pytest.mark.parametrize("text", [*BLOCKS, (FOLDER / "slurm.sh").read_text(encoding="utf-8")])
def test_bash_understands_it(text):
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_configuration_has_a_command_that_one_can_type(file):
    name = f"recipes/accelerate/{file.name}"
    commands = [words for words in typed("accelerate launch") if name in words]
    assert commands, f"no `accelerate launch --config_file {name} ...` on the page"
    for words in commands:
        args = launch_command_parser().parse_args(words)
        assert args.config_file == name
        assert words[-len(MODULE) :] == MODULE
        assert args.training_script_args == ["run", "RECIPE"]
        several = load_config_from_file(str(file)).num_processes > 1
        assert (args.num_processes is not None) == several, "--num_processes is the number of GPUs"


def test_torchrun_starts_the_same_on_each_node():
    (words,) = typed("torchrun")
    args = get_args_parser().parse_args(words)
    assert (args.nnodes, args.nproc_per_node, args.rdzv_backend, args.shutdown_timeout) == ("2", "8", "c10d", 100)
    assert args.module
    assert args.training_script == "hf_distill"
    assert args.training_script_args == ["run", "RECIPE", "--set", "training.bf16=true"]


def test_commands_of_our_own_have_the_options_that_the_page_gives_them():
    group = typer.main.get_command(app)
    commands = typed("hf-distill")
    assert [words[0] for words in commands].count("plan") >= 2
    for name, *words in commands:
        command = group.commands[name]
        context = command.make_context(name, [word for word in words if word != "..."], resilient_parsing=True)
        # `cache` is a group too, which takes its recipe by itself.
        assert "recipe" in context.params or name == "cache"


def test_the_job_script_is_started_with_a_configuration_that_is_there():
    (line,) = [line for line in LINES if "sbatch" in line]
    found = re.search(r"CONFIG=(\S+) sbatch .*?(recipes/accelerate/slurm\.sh) RECIPE", line)
    assert found is not None
    assert all((ROOT / name).is_file() for name in found.groups())


def test_scripts_of_the_page_are_there():
    named = set(re.findall(r"scripts/\w+\.py", PAGE))
    assert "scripts/scaling_table.py" in named
    assert all((ROOT / name).is_file() for name in named)


def test_tests_of_the_page_are_there():
    named = set(re.findall(r"tests/[\w/]+\.py", PAGE))
    assert "tests/fault_table.py" in named
    assert [name for name in named if not (ROOT / name).is_file()] == []
