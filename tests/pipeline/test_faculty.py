"""Recipes with assistants, ladders, ensembles, pruned mixes and self-teachers, from end to end."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from killed_pipeline import CountedParity, counted_teaching, teach_until_batch
from launching import run_until_killed
from safetensors.torch import load_file
from teaching_recipes import SHORT, TEACHERS, assistant, mlp, teaching_recipe, trained
from tiny_recipes import text_recipe, write_text
from transformers import AutoModelForSequenceClassification

from hf_distill.pipeline.cells import cells_of, task_of
from hf_distill.pipeline.checks import check_before_training
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord
from hf_distill.teachers import EnsembleTeacher, LiveTeacher, PrunedMixTeacher


class Done(NamedTuple):
    """A recipe that was run, and its record."""

    recipe: Recipe
    record: RunRecord

    @property
    def root(self) -> Path:
        return Path(self.recipe.output_dir)

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        return {model["name"]: model for model in self.record.teacher.get("models", [])}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Every way of teaching, run once."""
    folder, found = tmp_path_factory.mktemp("faculty"), {}
    for kind in TEACHERS:
        recipe = teaching_recipe(folder / kind, kind)
        found[kind] = Done(recipe, run_recipe(recipe))
    return found


def content(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def check(recipe: Recipe) -> None:
    check_before_training(recipe, task_of(recipe), Workspace(Path(recipe.output_dir)), cells_of(recipe))


# ---- what taught ----


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEACHERS)
def test_the_record_says_who_taught_and_reads_back(done, kind):
    record = RunRecord.load(done[kind].root)
    assert record.to_dict() == done[kind].record.to_dict()
    assert record.teacher["kind"] == {"takd": "assistant"}.get(kind, kind)
    assert all(len(run.final_metrics) == 2 for run in record.runs)
    taught = {stage.revision for run in record.runs for stage in run.stages}
    assert taught <= {revision.name for revision in record.revisions()}


@pytest.mark.slow
def test_each_assistant_learns_from_the_one_before_and_the_last_teaches_the_students(done):
    run = done["takd"]
    assert list(run.models) == ["teacher", "assistant 1", "assistant 2"]
    commits = {name: [entry["commit"] for entry in model["revisions"]] for name, model in run.models.items()}
    assert run.models["assistant 1"]["taught_by"] == commits["teacher"]
    assert run.models["assistant 2"]["taught_by"] == commits["assistant 1"]
    assert [revision.commit for revision in run.record.revisions()] == commits["assistant 2"]
    assert [run.models[name]["parameters"] for name in run.models] == [width * 13 + 2 for width in (64, 48, 40)]
    assert run.record.teacher["seconds"] == sum(model["seconds"] for model in run.models.values())
    assert run.record.teacher["final_metrics"] == run.models["assistant 2"]["final_metrics"]


@pytest.mark.slow
def test_an_assistant_ends_where_its_own_trainer_would_take_it(done, tmp_path):
    """The same training as a student of a recipe whose teacher it is."""
    source = str(done["takd"].root / "teacher")
    changes = {"teacher": {"source": source}, "student": {"model": mlp(48)}, "curriculum": {"name": "one_shot"}}
    recipe = teaching_recipe(tmp_path, "takd", **changes)
    run = run_recipe(recipe).runs[0]
    ours = load_file(tmp_path / run.folder / "model.safetensors")
    theirs = load_file(done["takd"].root / "assistants" / "1" / "checkpoint-24" / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_ladder_has_the_assistants_below_the_teacher(done):
    run = done["ladder"]
    (entry,) = run.record.revisions()
    finals = [run.models[name]["revisions"][-1]["commit"] for name in ("assistant 2", "assistant 1", "teacher")]
    assert [member.commit for member in entry.members] == finals
    assert run.record.teacher["final_metrics"] == run.models["teacher"]["final_metrics"]
    logged = [entry for entry in run.record.runs[0].training_log if "teacher/rung_1" in entry]
    shares = [[entry[f"teacher/rung_{rung}"] for rung in (1, 2, 3)] for entry in logged]
    assert shares[0][2] == 0.0, "12 steps of 24 open two of three rungs"
    assert shares[-1][2] > 0.0
    assert all(sum(share) == pytest.approx(1.0) for share in shares)


@pytest.mark.slow
def test_an_ensemble_of_trained_members_is_scored_as_one(done):
    run = done["ensemble"]
    (entry,) = run.record.revisions()
    assert [member.commit for member in entry.members] == [
        model["revisions"][-1]["commit"] for model in run.models.values()
    ]
    folders = [run.root / "members" / str(place) / "checkpoint-60" for place in (1, 2)]
    members = [LiveTeacher(AutoModelForSequenceClassification.from_pretrained(folder)) for folder in folders]
    source = EnsembleTeacher(members, weights=[2, 1])
    source.attach(head="classification", accelerator=None)
    source.enter(0)
    data = task_of(run.recipe).prepare(seed=0, cache_dir=run.root / "cache")
    batch = data.collator([data.validation[row] for row in range(len(data.validation))])
    right = (source.logits(batch).argmax(-1) == batch["labels"]).float().mean().item()
    assert run.record.teacher["final_metrics"]["accuracy"] == pytest.approx(right)


@pytest.mark.slow
def test_the_scores_of_a_pruned_mix_are_those_of_the_mix(done):
    run = done["pruned_mix"]
    model = AutoModelForSequenceClassification.from_pretrained(run.root / "teacher" / "checkpoint-60")
    source = PrunedMixTeacher(model, rate=0.3)
    source.attach(head="classification", accelerator=None)
    source.enter(0)
    data = task_of(run.recipe).prepare(seed=0, cache_dir=run.root / "cache")
    batch = data.collator([data.validation[row] for row in range(len(data.validation))])
    loss = torch.nn.functional.cross_entropy(source.logits(batch), batch["labels"]).item()
    assert run.record.teacher["scores"][-1]["loss"] == pytest.approx(loss, rel=1e-5)
    assert run.models["teacher"]["final_metrics"]["loss"] != pytest.approx(loss, rel=1e-3)
    assert [entry.members[0].name for entry in run.record.revisions()] == [f"checkpoint-{n}" for n in (20, 40, 60)]


@pytest.mark.slow
def test_a_self_teacher_is_made_anew_for_every_student(done, tmp_path):
    """A student must not learn from the average of the student before it."""
    run = done["ema"]
    alone = run_recipe(teaching_recipe(tmp_path, "ema", seeds=[1]))
    ours, theirs = (load_file(root / "students/one_shot/seed-1/model.safetensors") for root in (tmp_path, run.root))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert alone.teacher["source"] == "moving average of the student, decay 0.9 with warm-up"
    assert "scores" not in alone.teacher


@pytest.mark.slow
def test_a_ladder_measures_its_quantiles_for_every_student(done, tmp_path):
    """Otherwise the second student would depend on which one was trained before it in the same session."""
    root = tmp_path / "run"
    shutil.copytree(done["ladder"].root, root)
    shutil.rmtree(root / "students" / "one_shot" / "seed-1")
    run_recipe(teaching_recipe(root, "ladder"))
    ours, theirs = (
        load_file(folder / "students/one_shot/seed-1/model.safetensors") for folder in (root, done["ladder"].root)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


GPT2 = {"architecture": "gpt2", "config": {"n_embd": 8, "n_layer": 1, "n_head": 2}}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["causal_lm", "masked_lm"])
@pytest.mark.parametrize("kind", ["ladder", "ensemble", "pruned_mix"])
def test_language_models_are_taught_in_the_same_ways(tmp_path, head, kind):
    base = text_recipe(tmp_path / "base", text := write_text(tmp_path / "text"), head)
    assert base.teacher is not None and base.teacher.train is not None
    train = {"model": base.teacher.train.model, "training": base.teacher.train.training}
    small = GPT2 if head == "causal_lm" else {"architecture": "bert", "config": BERT}
    teacher = {
        "ladder": {"train": train, "assistants": [{**train, "model": small}], "route": {"examples": 8}},
        "ensemble": {"ensemble": {"members": [{"train": train}, {"train": {**train, "model": small, "seed": 1}}]}},
        "pruned_mix": {"train": train, "pruned": {"rate": 0.2}},
    }[kind]
    recipe = text_recipe(tmp_path / "run", text, head, teacher=teacher, compare={"one_shot": {"name": "one_shot"}})
    record = run_recipe(recipe)
    assert record.teacher["kind"] == kind
    assert record.runs[0].final_metrics["loss"] < record.runs[0].history[0]["loss"]


# ---- running it again ----


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEACHERS)
def test_a_second_run_trains_nobody_again(done, tmp_path, kind):
    root = tmp_path / "run"
    shutil.copytree(done[kind].root, root)
    parts = [root / name for name in ("teacher", "members", "assistants", "cache")]
    before = [content(part) for part in parts]
    again = run_recipe(teaching_recipe(root, kind))
    assert [content(part) for part in parts] == before
    assert [run.final_metrics for run in again.runs] == [run.final_metrics for run in done[kind].record.runs]
    assert again.teacher.get("final_metrics") == done[kind].record.teacher.get("final_metrics")


@pytest.mark.slow
def test_assistants_of_a_teacher_that_moved_are_refused(done, tmp_path):
    shutil.copytree(done["takd"].root / "teacher", tmp_path / "source")
    teacher = {"source": str(tmp_path / "source"), "assistants": [assistant(40)]}
    recipe = teaching_recipe(tmp_path / "run", "takd", teacher=teacher)
    run_recipe(recipe)
    shutil.copy(tmp_path / "source/checkpoint-20/model.safetensors", tmp_path / "source/checkpoint-60")
    with pytest.raises(ValueError, match=r"the assistant 1 in .* learned from another teacher: it had sha256"):
        run_recipe(recipe)


@pytest.mark.slow
def test_an_assistant_that_moved_under_finished_students_is_refused(done, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(done["takd"].root, root)
    final = root / "assistants" / "2" / "checkpoint-24"
    shutil.copy(root / "assistants" / "2" / "checkpoint-12" / "model.safetensors", final)
    with pytest.raises(ValueError, match=r"the teacher has changed since students .* learned from it"):
        run_recipe(teaching_recipe(root, "takd"))


@pytest.mark.slow
def test_an_assistant_may_learn_from_its_teachers_revisions(tmp_path):
    two_shot = assistant(40, name="two_shot", revision="auto", steps=8)
    teacher = {**TEACHERS["takd"], "assistants": [two_shot]}
    record = run_recipe(teaching_recipe(tmp_path, "takd", teacher=teacher))
    chosen = record.teacher["models"][0]["chosen"]
    state = json.loads((tmp_path / "assistants" / "1" / "checkpoint-24" / "distill_state.json").read_text())
    assert state["chosen"] == chosen
    assert state["switches"] == [8]
    assert record.teacher["models"][1]["learned_from"] == "the teacher, by two_shot"


@pytest.mark.slow
def test_students_may_learn_from_an_assistants_revisions(tmp_path):
    curriculum = {"name": "two_shot", "revision": 12, "steps": 12}
    record = run_recipe(teaching_recipe(tmp_path, "takd", curriculum=curriculum))
    assert [stage.revision for stage in record.runs[0].stages] == ["checkpoint-12", "checkpoint-24"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEACHERS)
def test_a_run_killed_at_any_point_ends_as_the_undisturbed_one(tmp_path, kind):
    CountedParity.kill_at, CountedParity.batches = None, 0
    whole = run_recipe(counted_teaching(tmp_path / "whole", kind))
    batches = CountedParity.batches
    shares = sorted(random.SystemRandom().uniform(0.05, 0.95) for _ in range(2))
    for share in (shares[0], shares[1] - shares[0]):
        run_until_killed(teach_until_batch, tmp_path / "cut", kind, max(int(share * 0.9 * batches), 1))
    resumed = run_recipe(counted_teaching(tmp_path / "cut", kind))
    assert [run.history for run in resumed.runs] == [run.history for run in whole.runs], shares
    pins = [[entry["commit"] for entry in record.teacher["revisions"]] for record in (resumed, whole)]
    assert pins[0] == pins[1], shares
    for run in whole.runs:
        ours, theirs = (load_file(tmp_path / root / run.folder / "model.safetensors") for root in ("cut", "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), shares


# ---- the check before any training ----


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_sound_recipe_passes_and_leaves_no_file(tmp_path, kind):
    check(teaching_recipe(tmp_path / "run", kind))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


NARROW = {"model": {"architecture": "parity_mlp", "config": {"width": 64, "input_size": 3}}, "training": SHORT}


@pytest.mark.parametrize(
    ("teacher", "changes", "message"),
    [
        (
            {
                "train": trained(64),
                "assistants": [assistant(48), assistant(40, name="two_shot", revision=999, steps=3)],
            },
            {},
            r"teacher\.assistants\[1\]: .*no revision 999; it has checkpoint-12, checkpoint-24",
        ),
        (
            {"train": trained(64), "assistants": [assistant(48, name="two_shot", revision=20, steps=24)]},
            {},
            r"teacher\.assistants\[0\]: .*24 steps must lie strictly between 0 and the run's 24 steps",
        ),
        (
            {"train": trained(64), "assistants": [assistant(48, temperatur=2.0)]},
            {},
            r"teacher\.assistants\[0\]\.curriculum\.temperatur: unknown key",
        ),
        (
            {"train": trained(64), "assistants": [{**assistant(48), "training": {**SHORT, "max_stepz": 3}}]},
            {},
            r"teacher\.assistants\[0\]\.training\.max_stepz: unknown key",
        ),
        ({"train": trained(64), "assistants": [NARROW]}, {}, r"model"),
        (
            {"train": trained(64), "assistants": [assistant(80)], "route": {}},
            {},
            r"teacher\.assistants: the rungs of a ladder go from the smallest expert to the largest",
        ),
        (
            {"train": trained(64), "assistants": [assistant(48)], "route": {}},
            {"curriculum": {"name": "two_shot", "revision": 20, "steps": 4}},
            r"the teacher has no revision 20; it has ladder",
        ),
        (
            {"train": trained(64), "assistants": [assistant(48)], "route": {}},
            {"curriculum": {"name": "extraction", "steps": 4}},
            r"need \['teacher.hidden_states'\], but LadderTeacher provides only",
        ),
        (
            {"ensemble": {"members": [{"train": trained(64)}, {"train": {**trained(48), "training": {"stepz": 1}}}]}},
            {},
            r"teacher\.ensemble\.members\[1\]\.train\.training\.stepz: unknown key",
        ),
        (
            {"ensemble": {**TEACHERS["ensemble"]["ensemble"], "weights": [1, -1]}},
            {},
            r"teacher\.ensemble: weights: expected numbers above 0, got -1",
        ),
        ({"train": trained(64), "pruned": {"rate": 1.5}}, {}, r"teacher\.pruned: rate: expected a share"),
        (
            {"self_teacher": {"name": "ema", "decay": 2.0}},
            {},
            r"teacher\.self_teacher: decay: expected a number from 0",
        ),
    ],
)
def test_what_cannot_work_is_said_before_any_training(tmp_path, teacher, changes, message):
    recipe = teaching_recipe(tmp_path / "run", "takd", teacher=teacher, **changes)
    with pytest.raises(ValueError, match=message):
        check(recipe)
    assert not any(tmp_path.rglob("checkpoint-*"))
