from __future__ import annotations

import subprocess
import sys

import pytest

from hf_distill.strict_dataclass import from_mapping
from hf_distill.student_making.cut import LayerRule, StudentCut, read_layers


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, None),
        ("first:3", LayerRule("first", 3)),
        ("cka: 2", LayerRule("cka", 2)),
        ([2, 4, 6], LayerRule(None, 3, (2, 4, 6))),
    ],
)
def test_rules_are_read(value, rule):
    assert read_layers(value, "layers") == rule


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("spaces:3", r"^layers: 'spaces:3' \(text\) is no choice of layers\. Did you mean `spaced`\?"),
        ("spaced", r"^layers: 'spaced' \(text\) does not say how many layers stay.*first:3"),
        ("spaced:0", "does not say how many"),
        ("first:two", "does not say how many"),
        ("3", r"is no choice of layers.*\[2, 4, 6\]"),
        ([], "names no layer"),
        ([0, 3, 5], "layers are counted from 1"),
        ([3, 1], "from shallow to deep"),
        ([1, 1], "repeats a layer"),
    ],
)
def test_what_is_no_choice_of_layers_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        StudentCut(layers=value)


def test_keys_are_strict_and_named_by_their_place():
    with pytest.raises(ValueError, match=r"^student\.model\.from_teacher\.hiden_size: .*Did you mean `hidden_size`"):
        from_mapping(StudentCut, {"hiden_size": 8}, path="student.model.from_teacher")
    with pytest.raises(ValueError, match=r"^from_teacher\.choose: expected 'first' or 'norm' or 'sensitivity'"):
        from_mapping(StudentCut, {"choose": "norms"}, path="from_teacher")
    with pytest.raises(ValueError, match=r"^from_teacher\.layers: expected text or list of int or null, got 3"):
        from_mapping(StudentCut, {"layers": 3}, path="from_teacher")


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "intermediate_size", "examples"])
def test_a_width_below_one_is_refused(key):
    with pytest.raises(ValueError, match=rf"^{key}: expected at least 1, got 0"):
        StudentCut(**{key: 0})


def test_a_decoder_follows_its_encoder_unless_it_has_a_rule_of_its_own():
    assert StudentCut(layers="first:3").rules() == (LayerRule("first", 3),) * 2
    assert StudentCut(layers="first:3", decoder_layers=[1]).rules() == (
        LayerRule("first", 3),
        LayerRule(None, 1, (1,)),
    )
    assert StudentCut(decoder_layers="last:1").rules() == (None, LayerRule("last", 1))


@pytest.mark.parametrize(
    ("cut", "cka", "sensitivity"),
    [
        ({"layers": "spaced:3", "hidden_size": 8, "choose": "norm"}, False, False),
        ({"layers": "cka:3"}, True, False),
        ({"layers": "first:3", "decoder_layers": "sensitivity:1"}, False, True),
        ({"choose": "sensitivity"}, False, False),
        ({"choose": "sensitivity", "intermediate_size": 8, "layers": "cka:1"}, True, True),
    ],
)
def test_only_choices_by_data_ask_for_data(cut, cka, sensitivity):
    made = StudentCut(**cut)
    assert (made.uses_cka, made.uses_sensitivity, made.needs_data) == (cka, sensitivity, cka or sensitivity)


def test_reading_a_recipe_needs_no_torch():
    code = "import sys, hf_distill.student_making.cut; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
