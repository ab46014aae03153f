"""The probe finds what states hold and nothing else: exact states, states without a text, states of the neighbours."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.nn.functional import one_hot

from hf_distill.analysis.nonterminal_probe import (
    NonterminalProbe,
    NonterminalProbeInfo,
    ProbeSettings,
    TreeBatch,
    nonterminal_probe_info,
    plot_nonterminal_probe,
)

CLASSES = {1: 3, 2: 2}
SMALL = ProbeSettings(heads=4, position_size=64)


def batches(count: int, *, seed: int, length: int = 16, size: int = 32) -> list[TreeBatch]:
    """Sentences of 8 to `length` tokens behind a first one; blocks of two have an ancestor, blocks of four another.

    The ids are random, so that only states can tell the ancestors.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        lengths = torch.randint(8, length + 1, (size, 1), generator=generator)
        inside = torch.arange(length + 1) <= lengths
        ids = torch.randint(0, 8, (size, length + 1), generator=generator)
        # The first class of each height is twice as likely as the others together.
        low, high = (
            (torch.rand(size, length // block, generator=generator) * 3 - 1).clamp(min=0).mul(number / 2).long()
            for block, number in ((2, 2), (4, 2))
        )
        rows = [
            torch.cat([torch.full((size, 1), -100), x.repeat_interleave(n, 1)], 1) for x, n in ((low, 2), (high, 4))
        ]
        ancestors = torch.stack(rows).where(inside & (torch.arange(length + 1) > 0), -100)
        made.append(TreeBatch(ids, inside.long(), ancestors))
    return made


class Known:
    """A "model" whose states are a function of the batch that is asked, told by its ids."""

    def __init__(self, states, *sides):
        self.states, self.batches = states, [batch for side in sides for batch in side]

    def __call__(self, ids, attention):
        return self.states(next(batch for batch in self.batches if batch.ids is ids))


def exact(batch: TreeBatch) -> torch.Tensor:
    return torch.cat([one_hot(x.clamp(min=0), 3).float() for x in batch.ancestors], -1)


def first_of_block(batch: TreeBatch) -> torch.Tensor:
    """What `exact` has, at the first token of each block only: elsewhere the states say nothing."""
    place = torch.arange(batch.ids.shape[1])[None, :, None] - 1
    blocks = torch.tensor([2, 2, 2, 4, 4, 4])
    return exact(batch) * (place % blocks == 0)


def noise(batch: TreeBatch) -> torch.Tensor:
    return torch.randn(*batch.ids.shape, 12, generator=torch.Generator().manual_seed(int(batch.ids.sum())))


def probed(states, *, train: int = 60, settings: ProbeSettings = SMALL) -> NonterminalProbeInfo:
    sides = batches(train, seed=0), batches(12, seed=1)
    return nonterminal_probe_info(Known(states, *sides), *sides, classes=CLASSES, settings=settings)


def test_exact_states_are_read():
    info = probed(exact)
    assert info.heights == (1, 2)
    assert min(info.accuracy) > 0.999


@pytest.mark.slow
def test_states_without_a_text_do_not_beat_the_most_frequent_ancestor():
    info = probed(noise)
    for accuracy, base in zip(info.accuracy, info.base_rate, strict=True):
        assert base - 0.03 < accuracy < base + 0.01
    assert all(0.6 < base < 0.72 for base in info.base_rate)


@pytest.mark.slow
def test_states_at_other_positions_are_found():
    assert min(probed(first_of_block).accuracy) > 0.95


def test_base_rate_and_terminals_are_counted():
    sides = batches(6, seed=0), batches(3, seed=1)
    info = nonterminal_probe_info(Known(exact, *sides), *sides, classes=CLASSES, settings=SMALL)
    answers = [torch.cat([batch.ancestors[k].flatten() for batch in sides[1]]) for k in (0, 1)]
    answers = [x[x != -100] for x in answers]
    assert info.terminals == len(answers[0])
    assert info.base_rate == pytest.approx([torch.bincount(x).max().item() / len(x) for x in answers])


def test_the_model_gets_no_gradient_and_the_global_generator_is_left():
    model = torch.nn.Embedding(8, 6)
    before = torch.get_rng_state()

    def hidden(ids, attention):
        return model(ids)

    first, again = (
        nonterminal_probe_info(hidden, batches(4, seed=0), batches(2, seed=1), classes=CLASSES, settings=SMALL)
        for _ in range(2)
    )
    assert first == again
    assert model.weight.grad is None
    assert torch.equal(torch.get_rng_state(), before)
    other = ProbeSettings(heads=4, position_size=64, seed=1)
    sides = batches(4, seed=0), batches(2, seed=1)
    assert nonterminal_probe_info(hidden, *sides, classes=CLASSES, settings=other) != first


def test_the_probe_sees_positions_and_no_padding():
    torch.manual_seed(0)
    probe = NonterminalProbe(6, 20, 5, ProbeSettings(heads=2, position_size=8))
    states, attention = torch.randn(2, 10, 6), torch.ones(2, 10, dtype=torch.long)
    attention[1, 7:] = 0
    logits = probe(states, attention)
    changed = states.clone()
    changed[1, 7:] = 1e3
    torch.testing.assert_close(probe(changed, attention), logits)
    torch.testing.assert_close(probe(states[:, :7], attention[:, :7])[1], logits[1, :7])
    places = probe.places_HTP[:, :7]
    weights = (places @ places.mT).softmax(-1)  # of head h for positions i and k, whatever the states are
    expected = torch.einsum("hik,kd,dhc->ic", weights, states[1, :7], probe.weight_DHC) + probe.bias_C
    torch.testing.assert_close(logits[1, :7], expected, atol=1e-5, rtol=1e-5)


def test_the_papers_probe_has_its_size():
    settings = ProbeSettings()
    assert (settings.heads, settings.position_size, settings.epochs, settings.learning_rate) == (16, 256, 4, 1e-2)
    probe = NonterminalProbe(64, 450, 15, settings)
    assert probe.places_HTP.shape == (16, 450, 16)
    assert probe.places_HTP.numel() == 256 * 450
    assert probe.weight_DHC.shape == (64, 16, 15)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ProbeSettings(heads=3, position_size=32), "multiple of heads = 3, got 32"),
        (lambda: ProbeSettings(epochs=0), "at least 1, got 0"),
        (lambda: nonterminal_probe_info(exact, [], batches(1, seed=0), classes=CLASSES), "ancestors of 2 heights"),
        (
            lambda: nonterminal_probe_info(exact, batches(1, seed=0), batches(1, seed=0), classes={1: 3}),
            "ancestors of 1 heights",
        ),
    ],
)
def test_impossible_questions_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_picture_is_written_and_wants_the_same_heights(tmp_path):
    infos = {
        name: NonterminalProbeInfo((1, 2, 3), (0.9, 0.8 - step / 10, 0.7), (0.4, 0.4, 0.5), 100)
        for step, name in enumerate(("teacher", "labels, seed 0", "n_shot, seed 0"))
    }
    path = plot_nonterminal_probe(infos, tmp_path / "nonterminals.png")
    with Image.open(path) as image:
        assert image.size == (1200, 675)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
    other = NonterminalProbeInfo((1, 2), (0.9, 0.8), (0.4, 0.4), 100)
    with pytest.raises(ValueError, match="same heights"):
        plot_nonterminal_probe({**infos, "other": other}, path)
    with pytest.raises(ValueError, match="same heights"):
        plot_nonterminal_probe({}, path)
