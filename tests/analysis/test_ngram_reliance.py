"""M_robust and M_close of models that read known positions only."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model
from PIL import Image

from hf_distill.analysis.ngram_reliance import (
    Distance,
    NgramReliance,
    Texts,
    causal_reliance_info,
    masked_reliance_info,
    plot_ngram_reliance,
    window,
)

VOCABULARY = 12
MASK = 11
LENGTH = 20


def texts(count=4, *, length=LENGTH, seed=0):
    ids = torch.randint(0, 10, (count, length), generator=torch.Generator().manual_seed(seed))
    return Texts(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))


def different_texts():
    """Texts that differ from one another at every position, so that a swapped token is another token."""
    ids = (torch.arange(LENGTH) + torch.arange(4)[:, None]) % 10
    return Texts(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))


def reads(shift):
    """A model that is sure of the token `shift` places away from the position that is asked, and sees nothing else."""

    def predict(ids, attention):
        return 1e4 * torch.nn.functional.one_hot(ids.roll(-shift, 1), VOCABULARY).float()

    return predict


def by_n(infos):
    return {info.n: info for info in infos}


def test_windows_are_those_of_the_paper():
    assert list(window(30, 3)) == [29, 30, 31]
    assert list(window(30, 5)) == [28, 29, 30, 31, 32]
    assert list(window(30, 4)) == [28, 29, 30, 31]
    assert list(window(30, 2)) == [29, 30]
    with pytest.raises(ValueError, match="at least 2"):
        window(30, 1)


def test_model_of_the_next_token_needs_the_window_and_nothing_else():
    found = by_n(masked_reliance_info(reads(1), [texts()], mask_id=MASK, positions=[5, 10]))
    # p + 1 lies in the 3-, 4- and 5-gram, not in the 2-gram.
    for n, inside in ((2, False), (3, True), (4, True), (5, True)):
        assert found[n].robust.median == (2.0 if inside else 0.0)
        assert found[n].close.median == (0.0 if inside else 2.0)
        assert found[n].pairs == 8


def test_model_of_a_far_token_does_not_need_the_window():
    found = by_n(masked_reliance_info(reads(-6), [texts()], mask_id=MASK, positions=[8]))
    assert all(info.robust == (0.0, 0.0) for info in found.values())
    assert all(info.close == (2.0, 2.0) for info in found.values())


def test_token_that_is_asked_for_is_always_hidden():
    found = by_n(masked_reliance_info(reads(0), [texts()], mask_id=MASK, positions=[8]))
    assert all(info.robust.mean == info.close.mean == 0.0 for info in found.values())


def test_total_variation_is_half_the_l1_distance():
    assert Distance(mean=1.5, median=0.5).total_variation == Distance(0.75, 0.25)


def test_distance_of_two_known_answers():
    def predict(ids, attention):
        hidden = (ids == MASK).sum(-1, keepdim=True)
        first = torch.where(hidden > 1, 0.25, 0.75)
        return torch.log(torch.cat([first, 1 - first], -1))[:, None].expand(-1, ids.shape[1], -1)

    (info,) = masked_reliance_info(predict, [texts()], mask_id=MASK, ngrams=[3], positions=[5])
    assert info.robust.mean == pytest.approx(1.0, abs=1e-6)
    assert info.robust.total_variation.mean == pytest.approx(0.5, abs=1e-6)


def test_mean_and_median_are_over_all_texts_and_positions():
    batch = texts(3)
    batch.ids[:, 6] = torch.tensor([1, 2, MASK])  # the third text has nothing to lose there
    (info,) = masked_reliance_info(reads(1), [batch], mask_id=MASK, ngrams=[3], positions=[5])
    assert info.robust.mean == pytest.approx(4 / 3)
    assert info.robust.median == 2.0


def test_special_tokens_and_padding_are_neither_hidden_nor_asked():
    batch = texts(2)
    batch.ordinary[:, 0] = False
    batch.ordinary[1, 9:] = False
    batch.attention[1, 9:] = 0
    seen = []

    def predict(ids, attention):
        seen.append((ids, attention))
        return reads(0)(ids, attention)

    infos = masked_reliance_info(predict, [batch], mask_id=MASK, ngrams=[3], positions=[1, 5, 8, 12, 19, 40])
    # 1 touches the first token, 8 the second text's padding, 12 lies in it, 19 is the text's end.
    assert infos[0].pairs == 2 + 1 + 1
    assert all((ids[:, 0] != MASK).all() for ids, _ in seen)
    assert all((ids[attention == 0] != MASK).all() for ids, attention in seen)


@pytest.mark.parametrize("attend_masked", [True, False])
def test_hidden_tokens_leave_the_attention_mask_only_where_asked(attend_masked):
    batch = texts(2)
    batch.attention[:, 15:] = 0
    seen = []

    def predict(ids, attention):
        seen.append((ids == MASK, attention.bool()))
        return reads(0)(ids, attention)

    masked_reliance_info(predict, [batch], mask_id=MASK, ngrams=[3], positions=[5], attend_masked=attend_masked)
    assert len(seen) == 3
    for hidden, attended in seen:
        expected = batch.attention.bool() if attend_masked else batch.attention.bool() & ~hidden
        assert torch.equal(attended, expected)
    assert [int(hidden[0].sum()) for hidden, _ in seen] == [1, 3, LENGTH - 2]


def test_causal_model_of_the_last_token_needs_nothing_else():
    found = by_n(causal_reliance_info(reads(0), [different_texts()], positions=[8, 12]))
    assert all(info.close.median == 0.0 and info.robust.median == 2.0 for info in found.values())
    assert found[2].pairs == 8


def test_causal_model_of_a_farther_token_needs_an_ngram_that_reaches_it():
    # It reads the token three before the one that is asked for: part of the 4-gram, not of the 3-gram.
    found = by_n(causal_reliance_info(reads(-2), [different_texts()], positions=[8]))
    assert [found[n].robust.median for n in (2, 3, 4, 5)] == [0.0, 0.0, 2.0, 2.0]
    assert [found[n].close.median for n in (4, 5)] == [0.0, 0.0]
    assert found[2].close.median == 2.0


def test_causal_model_is_not_shown_the_token_it_is_asked_for():
    longest = []

    def predict(ids, attention):
        longest.append(ids.shape[1])
        return reads(0)(ids, attention)

    causal_reliance_info(predict, [different_texts()], ngrams=[2, 3], positions=[8])
    assert longest == [8, 8, 1, 8, 2]


@pytest.mark.parametrize(
    ("measure", "match"),
    [
        (lambda: masked_reliance_info(reads(0), [texts()], mask_id=MASK, ngrams=[1]), "at least 2"),
        (lambda: masked_reliance_info(reads(0), [texts()], mask_id=MASK), "no position could be asked"),
        (lambda: causal_reliance_info(reads(0), [texts()], ngrams=[]), "at least 2"),
        (lambda: causal_reliance_info(reads(0), [texts(1)], positions=[8]), "no position could be asked"),
        (lambda: causal_reliance_info(reads(0), [texts()], ngrams=[5], positions=[4]), "no position could be asked"),
    ],
)
def test_questions_without_an_answer_are_refused(measure, match):
    with pytest.raises(ValueError, match=match):
        measure()


def test_distances_of_real_models_are_in_their_range():
    masked = tiny_model("masked_lm").eval()
    causal = tiny_model("causal_lm").eval()

    def predict(model):
        return lambda ids, attention: model(input_ids=ids, attention_mask=attention).logits

    infos = masked_reliance_info(predict(masked), [texts()], mask_id=MASK, positions=[6, 12])
    infos += causal_reliance_info(predict(causal), [texts()], positions=[6, 12])
    for info in infos:
        assert 0 < info.robust.mean < 2
        assert 0 < info.close.mean < 2


def test_picture_is_written_and_wants_a_step_for_each_revision(tmp_path):
    infos = [[NgramReliance(n, Distance(0.1 * n, 0.2), Distance(0.3, 0.4), 5) for n in (2, 3)]] * 2
    path = plot_ngram_reliance(infos, [100, 200], tmp_path / "ngrams.png")
    with Image.open(path) as image:
        assert image.size == (1200, 950)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
    with pytest.raises(ValueError, match="2 revisions but 1 steps"):
        plot_ngram_reliance(infos, [100], tmp_path / "x.png")
