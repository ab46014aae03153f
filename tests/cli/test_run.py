from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_type_hints

import pytest
from tiers import mostly_slow
from tiny_recipes import parity_recipe, untaught

from hf_distill.cli.run import run
from hf_distill.run_record import RunRecord

QUICK = ["--set", "training.max_steps=20", "--set", "teacher.train.training.max_steps=80"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return parity_recipe(tmp_path / "unused", report={"enabled": True}).save(tmp_path / "tiny.yaml")


@pytest.mark.slow
def test_a_run_shows_its_table_and_leaves_everything_under_its_folder(hf_distill, recipe, tmp_path):
    folder = tmp_path / "run [1]"
    cold = ["--set", "compare.two_shot.steps=10", "--set", f"output_dir={json.dumps(str(folder))}"]
    shown = hf_distill("run", recipe, *QUICK, *cold)
    assert shown.code == 0, shown.err
    assert shown.lines[0] == "tiny"
    assert shown.lines[1] == "curriculum accuracy, median min – max steps to 0.99, median reached seconds"
    assert [line.split()[0] for line in shown.lines[2:5]] == ["labels", "cold", "two_shot"]
    assert shown.lines[5].startswith("teacher: accuracy 1; two-shot revision: checkpoint-")
    assert f"report: {folder / 'report.html'}" in shown.out.splitlines()
    assert (folder / "report.html").stat().st_size > 10_000
    assert RunRecord.load(folder).command[:3] == ["hf-distill", "run", str(recipe)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run [1]", "tiny.yaml"]
    assert "'loss'" not in shown.out, "no dictionaries in the place of a progress bar"

    again = hf_distill("run", recipe, *QUICK, *cold)
    assert again.out == shown.out
    refused = hf_distill("run", recipe, *QUICK, *cold, "--no-resume")
    assert refused.code == 2
    assert "resume it or choose another output_dir" in refused.err

    (folder / "report.html").unlink()
    for place in (folder, folder / "run_record.json"):
        assert hf_distill("report", place).out == f"{folder / 'report.html'}\n"
        assert (folder / "report.html").is_file()


def test_progress_says_stage_revision_and_parts(hf_distill, recipe, tmp_path):
    shown = hf_distill("run", untaught(tmp_path / "run").save(tmp_path / "plain.yaml"))
    assert shown.code == 0, shown.err
    last = re.split(r"[\r\n]", shown.err.rstrip())[-1]
    assert last.startswith("labels: 100%")
    assert "loss=" in last
    assert "labels=" in last
    assert "eval_accuracy=" in last


def test_without_a_report_the_record_is_named(hf_distill, tmp_path):
    file = untaught(tmp_path / "run").save(tmp_path / "plain.yaml")
    shown = hf_distill("run", file, "--set", "training.max_steps=20")
    assert shown.lines[-1] == f"record: {tmp_path / 'run' / 'run_record.json'}"
    assert (tmp_path / "run" / "run_record.json").is_file()


def test_check_says_what_would_be_run_and_leaves_nothing(hf_distill, recipe, tmp_path):
    shown = hf_distill("run", recipe, "--check", "--set", "seeds=[0, 1]")
    assert shown.code == 0, shown.err
    assert shown.lines[:4] == [
        "student seeds curriculum",
        "labels 0, 1 name=labels",
        "cold 0, 1 name=one_shot, temperature=0.0",
        "two_shot 0, 1 name=two_shot, revision=auto, steps=20",
    ]
    assert shown.lines[4] == f"The recipe is sound: 6 students would be trained into {tmp_path / 'unused'}."
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.max_stepz=3", r"training\.max_stepz: unknown key\. Did you mean `max_steps`"),
        ("compare.two_shot.steps=80", "two_shot: .*must lie strictly between 0 and the run's 80 steps"),
        ("compare.two_shot.revision=7", "two_shot: .*no revision 7; it has checkpoint-20"),
        ("student.model.architecture=gpt3", r"model\.architecture: .*is no architecture"),
        ("task.k=[", "value '\\['"),
        ("nonsense", "expected key=value"),
        ("sseeds=[1]", "sseeds: unknown key. Did you mean `seeds`"),
    ],
)
@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_mistakes_are_told_by_both_and_cost_nothing(hf_distill, recipe, tmp_path, override, said, check):
    shown = hf_distill("run", recipe, "--set", override, *(["--check"] if check else []))
    assert shown.code == 2
    assert re.match(f"Error: .*{said}", shown.err, flags=re.DOTALL), shown.err
    assert "Traceback" not in shown.err
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.max_stepz=3", r"training\.max_stepz: unknown key\. Did you mean `max_steps`"),
        ("compare.two_shot.stepz=3", r"compare\.two_shot\.stepz: unknown key\. Did you mean `steps`"),
        (
            "compare.two_shot.training={max_stepz: 3}",
            r"compare\.two_shot\.training\.max_stepz: unknown key\. Did you mean `max_steps`",
        ),
        ("teacher.train.training.max_stepz=3", r"teacher\.train\.training\.max_stepz: unknown key"),
        ("task.kk=3", r"task\.kk: unknown key"),
        ("training.learning_rate=fast", r"training\.learning_rate: expected float"),
    ],
)
@pytest.mark.parametrize(
    "command",
    mostly_slow([["run", "--check"], ["run"], ["teachers", "score"]], quick=lambda command: command == ["run"]),
    ids=" ".join,
)
def test_a_typo_is_not_told_as_another_recipe_where_the_folder_holds_a_run(
    hf_distill, recipe, tmp_path, override, said, command
):
    trained = tmp_path / "unused" / "students" / "labels" / "seed-0" / "checkpoint-4"
    trained.mkdir(parents=True)
    (tmp_path / "unused" / "recipe.yaml").write_text(recipe.read_text())
    shown = hf_distill(*command, recipe, "--set", override)
    assert shown.code == 2
    assert re.match(f"Error: {said}", shown.err), shown.err
    other = hf_distill(*command, recipe, "--set", "training.max_steps=3")
    assert "holds a run of another recipe" in other.err


@pytest.mark.slow
def test_round_two_finds_the_student_of_round_one_from_the_same_folder(hf_distill, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = [f"--set=teacher.train.training.{key}=4" for key in ("max_steps", "save_steps", "eval_steps")]
    short = ["--set", "seeds=[0]", "--set", "training.max_steps=4", "--set", "training.eval_steps=4"]
    trained = hf_distill("run", "intra_distillation/round_1", *short, *teacher, "--set", "report.enabled=false")
    assert trained.code == 0, trained.err
    shown = hf_distill("run", "intra_distillation/round_2", *short, "--check")
    assert shown.code == 0, shown.err
    assert shown.lines[-1] == "The recipe is sound: 2 students would be trained into runs/self-distillation-round-2."


def test_check_looks_at_the_output_folder_too(hf_distill, recipe, tmp_path):
    (tmp_path / "unused").mkdir()
    (tmp_path / "unused" / "thesis.tex").write_text("years of work")
    shown = hf_distill("run", recipe, "--check")
    assert shown.code == 2
    assert "holds no hf_distill run" in shown.err
    assert [path.name for path in (tmp_path / "unused").iterdir()] == ["thesis.tex"]


def test_every_option_is_explained():
    hints = [hint for name, hint in get_type_hints(run, include_extras=True).items() if name != "return"]
    assert len(hints) == 4
    assert all(hint.__metadata__[0].help for hint in hints)
