"""Terms of a stage: which objectives, weights and temperatures, and what cannot be asked for."""

from __future__ import annotations

import pytest
from builders import HEADS, plan_context, revisions_at

from hf_distill.curricula import CURRICULA, OneShot
from hf_distill.curricula.base import check_range, find_revision, label_terms, stage_length
from hf_distill.schedules import Constant, Linear


def terms(head: str = "classification", **fields):
    curriculum = CURRICULA.build({"name": "one_shot", **fields}, path="curriculum")
    return curriculum.teacher_terms(plan_context(10, head=head))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_a_default_objective(head):
    (term,) = terms(head)
    assert term.name == ("teacher_mean_squared_error" if head == "regression" else "forward_kl")
    assert term.weight_at(0.5) == 1.0


@pytest.mark.parametrize("head", HEADS)
def test_mixing_shares_the_loss_between_teacher_and_labels(head):
    teacher, labels = terms(head, label_mix=0.25)
    assert (teacher.weight_at(0.0), labels.weight_at(0.0)) == (0.75, 0.25)
    assert labels.objective.needs == {"labels"}


def test_a_mix_may_follow_a_schedule():
    teacher, labels = terms(label_mix={"name": "linear", "start": 0.0, "stop": 1.0})
    assert [term.weight_at(0.25) for term in (teacher, labels)] == [0.75, 0.25]
    assert [term.weight_at(1.0) for term in (teacher, labels)] == [0.0, 1.0]


def test_a_mix_scales_only_terms_with_a_teacher():
    teacher, own, labels = terms(
        label_mix=0.5, objectives=[{"name": "forward_kl"}, {"name": "cross_entropy", "weight": 3.0}]
    )
    assert [term.weight_at(0.0) for term in (teacher, own, labels)] == [0.5, 3.0, 0.5]


@pytest.mark.parametrize("mix", [30, -0.1, {"name": "linear", "start": 0.0, "stop": 1.5}])
def test_a_mix_outside_its_range_would_push_away_from_the_teacher_and_is_refused(mix):
    with pytest.raises(ValueError, match=r"curriculum\.label_mix: must stay within \[0, 1\]"):
        terms(label_mix=mix)


def test_a_negative_temperature_is_refused():
    with pytest.raises(ValueError, match=r"curriculum\.objectives\[0\]\.temperature: must stay within \[0, inf\]"):
        terms(temperature=-1.0)
    with pytest.raises(ValueError, match=r"objectives\[0\]\.temperature: must stay within"):
        terms(objectives=[{"name": "forward_kl", "temperature": -2.0}])


def test_a_term_without_a_temperature_takes_the_curriculums():
    own, other = terms(
        temperature=4.0, objectives=[{"name": "forward_kl", "temperature": 2.0}, {"name": "forward_kl", "label": "b"}]
    )
    assert (own.temperature(0.0), other.temperature(0.0)) == (2.0, 4.0)


def test_objectives_carry_their_weight_and_their_own_fields():
    (term,) = terms(objectives=[{"name": "forward_kl", "weight": 2, "temperature_on": "both"}])
    assert term.weight_at(0.0) == 2.0
    assert term.objective.temperature_on == "both"


def test_two_terms_of_one_name_would_share_a_log_key_and_are_refused():
    with pytest.raises(ValueError, match=r"\['forward_kl'\] appear twice; give one of them a `label`"):
        terms(objectives=[{"name": "forward_kl"}, {"name": "forward_kl", "temperature": 2.0}])


@pytest.mark.parametrize(
    ("head", "objective"), [("regression", "forward_kl"), ("classification", "teacher_mean_squared_error")]
)
def test_an_objective_that_means_nothing_on_a_head_is_refused(head, objective):
    with pytest.raises(ValueError, match=rf"objectives\[0\]: '{objective}' does not fit a {head} head; it fits"):
        terms(head, objectives=[{"name": objective}])


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "forward_lk"}, "Did you mean 'forward_kl'"),
        ({"weight": 1.0}, r"objectives\[0\]: a objective needs a `name`|needs a `name`"),
        ({"name": "forward_kl", "weigth": 1.0}, "Did you mean|unknown key"),
        ({"name": "forward_kl", "weight": "heavy"}, r"objectives\[0\]\.weight: expected a number"),
    ],
)
def test_a_mistake_in_an_objective_is_named(objective, message):
    with pytest.raises(ValueError, match=message):
        terms(objectives=[objective])


def test_an_objective_specification_is_not_changed():
    spec = {"name": "forward_kl", "weight": 2.0, "temperature": 3.0, "label": "a"}
    terms(objectives=[spec])
    assert spec == {"name": "forward_kl", "weight": 2.0, "temperature": 3.0, "label": "a"}


@pytest.mark.parametrize("head", HEADS)
def test_labels_have_one_term_on_every_head(head):
    (term,) = label_terms(plan_context(head=head))
    assert term.objective.needs == {"labels"}
    assert head in term.objective.heads


def test_a_curriculum_without_auto_stays_as_it_is():
    curriculum = OneShot()
    assert curriculum.with_chosen("step10") is curriculum
    assert not curriculum.needs_scores
    assert not curriculum.needs_evaluation


@pytest.mark.parametrize(("steps", "share", "expected"), [(7, None, 7), (None, 0.25, 25), (None, 0.333, 33)])
def test_a_stage_is_given_in_steps_or_as_a_share(steps, share, expected):
    assert stage_length(steps, share, 100, what="two_shot") == expected


@pytest.mark.parametrize(
    ("steps", "share"), [(0, None), (100, None), (-3, None), (None, 0.0), (None, 1.0), (None, 0.001)]
)
def test_a_stage_that_leaves_nothing_on_one_side_is_refused(steps, share):
    with pytest.raises(ValueError, match=r"must lie strictly between 0 and the run's 100 steps"):
        stage_length(steps, share, 100, what="two_shot")


@pytest.mark.parametrize(("steps", "share"), [(None, None), (3, 0.5)])
def test_a_stage_has_one_length(steps, share):
    with pytest.raises(ValueError, match="two_shot: give either `steps` or `share`"):
        stage_length(steps, share, 100, what="two_shot")


@pytest.mark.parametrize("wanted", ["step20", 20, "20"])
def test_a_revision_is_found_by_name_or_step(wanted):
    assert find_revision(wanted, revisions_at(10, 20, None), what="x") == 1


def test_an_unknown_revision_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"x: the teacher has no revision 'step2'; it has step10, step20, final"):
        find_revision("step2", revisions_at(10, 20, None), what="x")
    with pytest.raises(ValueError, match="it has none: the teacher has no revisions"):
        find_revision("step2", [], what="x")


def test_a_schedule_is_looked_at_over_the_whole_run():
    assert check_range(Constant(level=0.5), 0.0, 1.0, path="x") is None
    with pytest.raises(ValueError, match=r"x: must stay within \[0, 1\], but linear 0→3 gives"):
        check_range(Linear(start=0.0, stop=3.0, begin=0.9), 0.0, 1.0, path="x")
