"""Curriculum extraction lays out its stages shallow to deep, and refuses layers and lengths that cannot be."""

from __future__ import annotations

import dataclasses

import pytest
from builders import bert_config, plan_context

from hf_distill.curricula import CURRICULA, Extraction, Plan
from hf_distill.objectives import HiddenMSE
from hf_distill.reading.extractor import LayerPair


def extraction(**fields) -> Extraction:
    return CURRICULA.build({"name": "extraction", **fields}, path="curriculum")


def plan_of(student: int, teacher: int, *, max_steps: int = 100, **fields) -> Plan:
    context = dataclasses.replace(
        plan_context(10, None, max_steps=max_steps), student_layers=student, teacher_layers=teacher
    )
    return extraction(**fields).plan(context)


def test_layers_come_shallow_to_deep_and_then_the_logits():
    plan = plan_of(2, 4, steps=7)
    assert [stage.layers for stage in plan.stages] == [LayerPair(1, 2), LayerPair(2, 4), None]
    assert [stage.name for stage in plan.stages] == ["layer 1 ← 2", "layer 2 ← 4", "final"]
    assert plan.switches == [7, 14]
    assert [plan.stage_at(step).name for step in (0, 6, 7, 13, 14, 99)] == [
        *["layer 1 ← 2"] * 2,
        *["layer 2 ← 4"] * 2,
        *["final"] * 2,
    ]


def test_only_the_final_teacher_is_asked():
    assert {stage.revision for stage in plan_of(2, 4).stages} == {1}


def test_hidden_stages_compare_hidden_states_and_the_last_one_logits():
    *hidden, final = plan_of(2, 4, temperature=2.0, objectives=[{"name": "forward_kl", "temperature": 3.0}]).stages
    for stage in hidden:
        assert [type(term.objective) for term in stage.terms] == [HiddenMSE]
        assert stage.terms[0].weight_at(0.5) == 1.0
        assert stage.needs == {"student.hidden_states", "teacher.hidden_states"}
    assert [term.name for term in final.terms] == ["forward_kl"]
    assert final.terms[0].temperature(0.5) == 3.0


@pytest.mark.parametrize(("fields", "length"), [({}, 12), ({"share": 0.5}, 25), ({"steps": 40}, 40)], ids=str)
def test_the_share_is_divided_among_the_layers(fields, length):
    assert plan_of(2, 4, **fields).switches == [length, 2 * length]


def test_given_layers_are_taken_as_they_are():
    plan = plan_of(4, 6, layers=[[2, 3], [4, 5]], steps=10)
    assert [stage.layers for stage in plan.stages] == [LayerPair(2, 3), LayerPair(4, 5), None]


def test_a_map_that_has_to_be_found_holds_the_place_of_as_many_stages():
    """The plan is checked before training, when nobody has compared the layers yet."""
    curriculum = extraction(layers="cka", steps=10)
    assert curriculum.needs_layer_map
    found = curriculum.with_layers([(1, 1), (2, 1)])
    assert not found.needs_layer_map
    context = dataclasses.replace(plan_context(10, None), student_layers=2, teacher_layers=4)
    assert curriculum.plan(context).switches == found.plan(context).switches
    assert [stage.layers for stage in found.plan(context).stages] == [LayerPair(1, 1), LayerPair(2, 1), None]
    assert found.steps == 10


@pytest.mark.parametrize("pair", [[0, 1], [3, 1], [1, 0], [1, 5]])
def test_layers_that_do_not_exist_are_refused(pair):
    with pytest.raises(ValueError, match=r"asked for, but the student has layers 1 to 2 and the teacher 1 to 4"):
        plan_of(2, 4, layers=[pair])


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"steps": 5, "share": 0.2}, "either `steps` .* or `share`"),
        ({"steps": 0}, "`steps` must be positive, got 0"),
        ({"dimensions": -1}, "`dimensions` must be positive, got -1"),
        ({"readout_rate": 0.0}, "`readout_rate` must be positive, got 0"),
        ({"share": 1.0}, "`share` must lie between 0 and 1, got 1"),
        ({"layers": []}, r"`layers` must be \[student, teacher\] pairs, got \[\]"),
        ({"layers": [[1, 2, 3]]}, r"`layers` must be \[student, teacher\] pairs"),
        ({"layers": "all"}, "layers"),
        ({"calibration_examples": 1}, "`calibration_examples` must be 2 or more, got 1"),
    ],
    ids=str,
)
def test_impossible_fields_are_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        extraction(**fields)


@pytest.mark.parametrize("fields", [{"steps": 50}, {"share": 0.001}], ids=str)
def test_stages_that_do_not_fit_the_run_are_refused(fields):
    with pytest.raises(ValueError, match="do not fit before the logits in a run of 100 steps; change `steps`"):
        plan_of(2, 4, **fields)


def test_the_extractor_gets_the_widths_of_both_models():
    student, teacher = bert_config(hidden_size=8), bert_config(hidden_size=16, num_hidden_layers=4)
    made = extraction(dimensions=5, projection_seed=3).build_extractor(student, teacher)
    assert made.pairs == [LayerPair(1, 2), LayerPair(2, 4)]
    assert made.get_buffer("projection_2_4").shape == (5, 16)
    assert made.readouts["2_4"].weight.shape == (5, 8)


def test_an_extractor_for_layers_that_do_not_exist_is_refused():
    with pytest.raises(ValueError, match="the student has layers 1 to 2"):
        extraction(layers=[[3, 1]]).build_extractor(bert_config(), bert_config())
