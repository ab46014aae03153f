from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.cache.codecs import CODECS, Codec
from hf_distill.kernels.heads import Head
from hf_distill.objectives import OBJECTIVES
from hf_distill.reading.signals import Signals

ROWS, VOCABULARY, HIDDEN = 6, 37, 16
SPECS = [
    *({"name": "logits", "dtype": dtype} for dtype in ("float32", "bfloat16", "float16")),
    *({"name": "hidden", "dtype": dtype} for dtype in ("float32", "bfloat16", "float16", "int8")),
    *({"name": "top_k", "k": k, "dtype": dtype} for k in (1, 5, 37, 64) for dtype in ("float16", "float32")),
]
BITS = {"float32": 24, "float16": 11, "bfloat16": 8, "int8": 7}


def head(*, scale: float = 1.0, softcap: float | None = None) -> Head:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    return Head(weight, torch.randn(VOCABULARY, generator=generator), scale, softcap)


def hidden_rows(count: int = ROWS) -> torch.Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(4))


def build(spec: dict[str, object]) -> Codec:
    return CODECS.build(spec, path="codec")


def kept(codec: Codec, hidden: torch.Tensor, over: Head) -> dict[str, torch.Tensor]:
    return codec.encode(hidden if codec.reads == "hidden" else over.rows(hidden).logits())


def read(codec: Codec, columns: dict[str, torch.Tensor], over: Head) -> torch.Tensor:
    return codec.decode(columns, vocabulary=VOCABULARY, head=over).logits()


def divergence(live: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    p, q = live.double().log_softmax(-1), decoded.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_codec_keeps_a_row_as_well_as_its_numbers_allow(spec):
    codec, over, hidden = build(spec), head(), hidden_rows()
    live = over.rows(hidden).logits()
    decoded = read(codec, kept(codec, hidden, over), over)
    assert decoded.shape == live.shape
    if codec.up_to_a_constant:
        live = live.log_softmax(-1)
    size = 2.0 ** (3 - BITS[spec["dtype"]]) * live.abs().amax(-1)
    if spec["name"] == "top_k":
        top = live.topk(min(spec["k"], VOCABULARY)).indices
        assert decoded.topk(top.shape[-1]).indices.sort().values.equal(top.sort().values)
        live, decoded = live.gather(-1, top), decoded.gather(-1, top)
    assert ((decoded - live).abs().amax(-1) <= size).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_bytes_of_a_row_are_those_that_are_stored(spec):
    codec, over = build(spec), head()
    columns = kept(codec, hidden_rows(), over)
    stored = sum(column.nbytes for column in columns.values())
    assert stored == ROWS * codec.bytes_per_row(vocabulary=VOCABULARY, hidden=HIDDEN)
    assert all(len(column) == ROWS and column.device.type == "cpu" for column in columns.values())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_rows_are_kept_one_by_one(spec):
    """Whatever batch a row was in, the same bytes are kept of it."""
    codec, over, hidden = build(spec), head(), hidden_rows()
    logits = over.rows(hidden).logits()
    rows = hidden if codec.reads == "hidden" else logits
    whole = codec.encode(rows)
    parts = [codec.encode(row[None]) for row in rows]
    for name, column in whole.items():
        assert torch.cat([part[name] for part in parts]).equal(column), name
    nothing = codec.decode({name: column[:0] for name, column in whole.items()}, vocabulary=VOCABULARY, head=over)
    assert nothing.logits().shape == (0, VOCABULARY)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_part_of_the_rows_can_be_read_without_the_others(spec):
    codec, over = build(spec), head()
    decoded = codec.decode(kept(codec, hidden_rows(), over), vocabulary=VOCABULARY, head=over)
    if codec.reads == "logits":
        assert decoded.read(2, 5).equal(decoded.logits()[2:5])
    else:
        assert decoded.hidden_RH.shape == (ROWS, HIDDEN)


def test_float32_logits_and_hidden_states_are_exact():
    over, hidden = head(), hidden_rows()
    live = over.rows(hidden).logits()
    for spec in ({"name": "logits"}, {"name": "hidden", "dtype": "float32"}):
        codec = build(spec)
        assert read(codec, kept(codec, hidden, over), over).equal(live)


def test_half_precision_rows_of_a_teacher_keep_their_bits():
    rows = hidden_rows().bfloat16()
    codec = build({"name": "hidden"})
    assert codec.encode(rows)["hidden"].equal(rows)
    assert build({"name": "logits"}).encode(rows)["logits"].bfloat16().equal(rows)


def test_what_a_model_does_behind_its_head_is_done_to_kept_rows_too():
    over, hidden = head(scale=0.25, softcap=2.0), hidden_rows()
    plain = torch.nn.functional.linear(hidden, over.weight_VH, over.bias_V)
    codec = build({"name": "hidden", "dtype": "float32"})
    torch.testing.assert_close(read(codec, codec.encode(hidden), over), 2.0 * torch.tanh(0.25 * plain / 2.0))


# ---- top k ----


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(
    logits=st.lists(st.floats(-40, 40, width=32), min_size=VOCABULARY, max_size=VOCABULARY, unique=True),
    k=st.integers(1, VOCABULARY),
)
def test_top_k_kl_from_the_cache_is_that_of_the_live_teacher(logits, k):
    live = torch.tensor([logits])
    codec = build({"name": "top_k", "k": k, "dtype": "float32"})
    decoded = codec.decode(codec.encode(live), vocabulary=VOCABULARY, head=None).logits()
    student = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(k), requires_grad=True)
    found = []
    for teacher in (live, decoded):
        objective = OBJECTIVES.build({"name": "top_k_kl", "k": k}, path="objective")
        value = objective.values(Signals(student_logits=student, teacher_logits=teacher), temperature=1.0).sum()
        found += [value.detach(), *torch.autograd.grad(value, student)]
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[3], found[1], rtol=1e-4, atol=1e-5)


def test_a_smaller_k_than_the_stored_one_is_exact_too():
    live = torch.randn(4, VOCABULARY) * 3
    codec = build({"name": "top_k", "k": 9, "dtype": "float32"})
    decoded = codec.decode(codec.encode(live), vocabulary=VOCABULARY, head=None).logits()
    objective = OBJECTIVES.build({"name": "top_k_kl", "k": 4}, path="objective")
    student = torch.randn(4, VOCABULARY)
    values = [
        objective.values(Signals(student_logits=student, teacher_logits=rows), temperature=1.0)
        for rows in (live, decoded)
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_rest_has_its_mass_and_no_id_of_it_more_than_one_that_is_kept(dtype):
    live = torch.randn(50, VOCABULARY) * torch.logspace(-4, 1.5, 50)[:, None]
    codec = build({"name": "top_k", "k": 4, "dtype": dtype})
    decoded = codec.decode(codec.encode(live), vocabulary=VOCABULARY, head=None).logits()
    p, q = live.softmax(-1), decoded.softmax(-1)
    top = p.topk(4).indices
    rest_p, rest_q = (1 - side.gather(-1, top).sum(-1) for side in (p, q))
    torch.testing.assert_close(rest_q, rest_p, rtol=0, atol=2e-3)
    assert (decoded.topk(4).values[:, -1] >= decoded.scatter(-1, top, -math.inf).amax(-1)).all()
    torch.testing.assert_close(decoded.logsumexp(-1), torch.zeros(50), rtol=0, atol=3e-3)


def test_more_of_the_likeliest_ids_are_nearer_to_the_teacher():
    live = torch.randn(200, VOCABULARY) * 2
    errors = []
    for k in (1, 4, 16, VOCABULARY):
        codec = build({"name": "top_k", "k": k, "dtype": "float32"})
        decoded = codec.decode(codec.encode(live), vocabulary=VOCABULARY, head=None).logits()
        errors.append(float(divergence(live, decoded).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_ids_that_the_teacher_rules_out_stay_ruled_out():
    live = torch.full((1, VOCABULARY), -math.inf)
    live[0, [3, 8]] = torch.tensor([1.0, 2.0])
    codec = build({"name": "top_k", "k": 4})
    decoded = codec.decode(codec.encode(live), vocabulary=VOCABULARY, head=None).logits()
    torch.testing.assert_close(decoded.softmax(-1), live.softmax(-1), rtol=0, atol=1e-3)


# ---- settings ----


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "top_k", "k": 0}, "k must be at least 1"),
        ({"name": "topk"}, "Did you mean 'top_k'"),
        ({"name": "logits", "k": 3}, "unknown key"),
        ({"name": "hidden", "dtype": "float8"}, "float8"),
    ],
)
def test_impossible_settings_are_refused(spec, said):
    with pytest.raises(ValueError, match=said):
        build(spec)


def test_titles_say_the_settings():
    titles = [build(spec).title() for spec in ({"name": "logits"}, {"name": "hidden"}, {"name": "top_k", "k": 9})]
    assert titles == ["logits float32", "hidden bfloat16", "top_k k=9 float16"]
