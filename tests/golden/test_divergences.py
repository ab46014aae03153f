"""Golden values of every divergence, each with where it comes from; changing one needs a sentence of reason.

None comes from our code: the definitions in 40 digits (mpmath 1.3), closed forms of coins, torch.distributions, and
functions that trl has released (1.16). trl has no total variation, no skew divergence of one direction, and neither
the decoupled divergence nor the split by uncertainty: for these the definition and the closed form have to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import pytest
import torch
from logit_cases import RELATIVE, Probabilities, kl, logit_pair, logits_of, mixture, softmax, values_of

from hf_distill.objectives import (
    OBJECTIVES,
    DecoupledKD,
    ForwardKL,
    GeneralizedJSD,
    Objective,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SymmetricKL,
    TopKKL,
    TotalVariation,
    UncertaintySplit,
)
from hf_distill.objectives.distributions import TemperedObjective

# One row of six logits each, chosen by hand: an unlikely token, a tie, a large gap.
STUDENT = [0.5, -1.25, 2.0, 2.0, -7.5, 0.0]
TEACHER = [3.0, -0.5, 1.0, 2.5, -12.0, 0.25]
LABEL = 0
TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
# Registered comparisons of distributions that are no divergences of them.
OTHERS = {"ckd", "logit_cosine"}


# ---- the definitions, of the teacher's p and the student's q ----


def decoupled(p: Probabilities, q: Probabilities) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The coin of the label, and the others among themselves."""
    rest_p, rest_q = (sum(row[1:]) for row in (p, q))
    others = kl([mass / rest_p for mass in p[1:]], [mass / rest_q for mass in q[1:]])
    return kl([p[LABEL], rest_p], [q[LABEL], rest_q]), others


def top_two(p: Probabilities, q: Probabilities) -> mpmath.mpf:
    """Over the teacher's logits 3 and 2.5, and the rest."""
    return kl(*([row[0], row[3], row[1] + row[2] + row[4] + row[5]] for row in (p, q)))


def split(p: Probabilities, q: Probabilities) -> mpmath.mpf:
    target, others = decoupled(p, q)
    return 0.4 * others if 1 - p[LABEL] < 0.5 else 1.6 * (target + others)


def jensen_shannon(p: Probabilities, q: Probabilities) -> mpmath.mpf:
    m = mixture(p, q, 0.25)
    return 0.25 * kl(p, m) + 0.75 * kl(q, m)


class Golden(NamedTuple):
    """A divergence: its fields, its definition, and its values.

    The values are, for each of `TEMPERATURES`, those of KL-like(teacher/τ, student) and τ²·KL-like(teacher/τ,
    student/τ).
    """

    objective: type[Objective]
    fields: dict[str, float]
    definition: Callable[[Probabilities, Probabilities], mpmath.mpf]
    values: list[tuple[float, float]]


GOLDEN = [
    Golden(
        ForwardKL,
        {},
        kl,
        [
            (1.2925620716121409, 0.55794685853022363),
            (0.74093182210371389, 0.74093182210371389),
            (0.45625638553143821, 0.78125653357201152),
            (0.47780986353216076, 0.86531993308971533),
        ],
    ),
    Golden(
        ReverseKL,
        {},
        lambda p, q: kl(q, p),
        [
            (1.6607452474099713, 0.4900478824830653),
            (0.68301137164306303, 0.68301137164306303),
            (0.39325014280877785, 0.74762147605115514),
            (0.36727223673442416, 0.90224361305287792),
        ],
    ),
    Golden(
        SymmetricKL,
        {},
        lambda p, q: kl(p, q) + kl(q, p),
        [
            (2.9533073190221124, 1.047994741013289),
            (1.423943193746777, 1.423943193746777),
            (0.84950652834021601, 1.5288780096231667),
            (0.84508210026658492, 1.7675635461425934),
        ],
    ),
    Golden(
        GeneralizedJSD,
        {"beta": 0.25},
        jensen_shannon,
        [
            (0.21614554313429965, 0.074027602156399572),
            (0.12416281856194503, 0.12416281856194503),
            (0.078375974290837674, 0.14117084009412886),
            (0.077593921110331879, 0.16181576632834974),
        ],
    ),
    Golden(
        SkewKL,
        {"alpha": 0.125},
        lambda p, q: kl(p, mixture(p, q, 0.125)),
        [
            (0.86865645142217196, 0.2876645146162165),
            (0.50111781403567024, 0.50111781403567024),
            (0.3178734558404559, 0.57499462928435041),
            (0.31302035966218933, 0.66016983492611125),
        ],
    ),
    Golden(
        SkewReverseKL,
        {"alpha": 0.125},
        lambda p, q: kl(q, mixture(q, p, 0.125)),
        [
            (0.89517538180992462, 0.27333403266535389),
            (0.48399852276700794, 0.48399852276700794),
            (0.2982978503326929, 0.56200828150718618),
            (0.2851574977645297, 0.67150995317660722),
        ],
    ),
    Golden(
        TotalVariation,
        {},
        lambda p, q: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
        [
            (0.62573210105243915, 0.1736877117953359),
            (0.45186322068963081, 0.45186322068963081),
            (0.38875462167857783, 0.94520547228114227),
            (0.40043120211956001, 1.8807180962066012),
        ],
    ),
    Golden(
        TopKKL,
        {"k": 2},
        top_two,
        [
            (1.2922824434207052, 0.55646610466112689),
            (0.71454308405807865, 0.71454308405807865),
            (0.31564045487610104, 0.69301759932358631),
            (0.17133375983553567, 0.64820628903622091),
        ],
    ),
    Golden(
        DecoupledKD,
        {},
        lambda p, q: decoupled(p, q)[0] + 8 * decoupled(p, q)[1],
        [
            (5.4778437132133364, 1.5170911430124567),
            (2.2715382499471728, 2.2715382499471728),
            (2.1733890406799365, 2.5324704492909533),
            (3.7719878670916689, 3.6242257586083841),
        ],
    ),
    Golden(
        UncertaintySplit,
        {},
        split,
        [
            (0.21688748332746061, 0.04970427508187554),
            (0.081149074835993554, 0.081149074835993554),
            (0.87448214510375533, 1.3973498281250063),
            (0.97510689866590161, 1.5609007332012015),
        ],
    ),
]
EVERY = pytest.mark.parametrize("golden", [pytest.param(one, id=one.objective.__name__) for one in GOLDEN])


def ours(golden: Golden, dtype: torch.dtype = torch.float64) -> list[tuple[float, float]]:
    """The values as our objectives give them."""
    student, teacher = (torch.tensor([logits], dtype=dtype) for logits in (STUDENT, TEACHER))
    one_sided, two_sided = (golden.objective(**golden.fields, temperature_on=side) for side in ("teacher", "both"))
    return [
        (
            values_of(one_sided, student, teacher, torch.tensor([LABEL]), temperature=tau).item(),
            values_of(two_sided, student, teacher, torch.tensor([LABEL]), temperature=tau).item(),
        )
        for tau in TEMPERATURES
    ]


def flat(values: list[tuple[float, float]]) -> list[float]:
    return [value for pair in values for value in pair]


def test_a_divergence_without_golden_values_is_noticed() -> None:
    registered = {name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), TemperedObjective)}
    assert registered - OTHERS == {OBJECTIVES.name_of(golden.objective) for golden in GOLDEN}


@EVERY
def test_the_golden_values_are_the_definition(golden: Golden) -> None:
    student, teacher = (torch.tensor(logits, dtype=torch.float64) for logits in (STUDENT, TEACHER))
    expected = []
    for tau in TEMPERATURES:
        with mpmath.workdps(40):
            one_sided = golden.definition(softmax(teacher, tau), softmax(student))
            two_sided = tau**2 * golden.definition(softmax(teacher, tau), softmax(student, tau))
        expected += [float(one_sided), float(two_sided)]
    assert flat(golden.values) == pytest.approx(expected, rel=1e-15)


@EVERY
def test_a_divergence_has_its_golden_values(golden: Golden) -> None:
    assert flat(ours(golden)) == pytest.approx(flat(golden.values), rel=1e-13)


@EVERY
def test_float32_has_them_to_rounding(golden: Golden) -> None:
    found, at_one = ours(golden, torch.float32), TEMPERATURES.index(1.0)
    assert found[at_one] == pytest.approx(golden.values[at_one], rel=RELATIVE)
    # At high temperatures the logarithms nearly cancel: eps / divergence is what float32 can do.
    assert flat(found) == pytest.approx(flat(golden.values), rel=5e-6)


@EVERY
def test_a_number_added_to_all_logits_of_a_side_changes_nothing(golden: Golden) -> None:
    student, teacher = logit_pair()
    labels, objective = torch.tensor([0, 1, 2, 3]), golden.objective(**golden.fields)
    plain = values_of(objective, student, teacher, labels, temperature=2.0)
    shifted = values_of(objective, student + 13.0, teacher - 7.0, labels, temperature=2.0)
    torch.testing.assert_close(shifted, plain, rtol=1e-12, atol=1e-14)
    assert values_of(objective, teacher + 13.0, teacher, labels).abs().max().item() < 1e-14


# ---- closed forms ----

COIN = math.log(2) - (0.25 * math.log(4) + 0.75 * math.log(4 / 3))
"""KL(3/4 ‖ 1/2) = log 2 − H(1/4) = 0.13081203594113697 nats."""
FAIR, BIASED, OTHER_BIASED = [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]
LABEL_COIN = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
"""KL(1/2 ‖ 1/3)."""


@pytest.mark.parametrize(
    ("objective", "teacher", "student", "expected"),
    [
        (ForwardKL(), BIASED, FAIR, COIN),
        (ReverseKL(), FAIR, BIASED, COIN),
        (ReverseKL(), BIASED, FAIR, 0.5 * math.log(4 / 3)),
        (SymmetricKL(), BIASED, OTHER_BIASED, math.log(3)),
        # ½ of one coin and ½ of the other are a fair one.
        (GeneralizedJSD(), BIASED, OTHER_BIASED, COIN),
        (SkewKL(alpha=0.5), BIASED, OTHER_BIASED, COIN),
        (SkewReverseKL(alpha=0.5), BIASED, OTHER_BIASED, COIN),
        (GeneralizedJSD(beta=0.25), [1.0, 0.0], [0.0, 1.0], math.log(2) - COIN),
        (TotalVariation(), BIASED, OTHER_BIASED, 0.5),
        # The likeliest of three against the rest is a coin.
        (TopKKL(k=1), [0.75, 0.15, 0.1], [0.5, 0.1, 0.4], COIN),
        # The label's coin, and 3/4 against 1/4 among the other two.
        (DecoupledKD(alpha=2.0, beta=8.0), [0.5, 0.375, 0.125], [1 / 3] * 3, 2 * LABEL_COIN + 8 * COIN),
        (DecoupledKD(coupled=True, beta=8.0), [0.5, 0.375, 0.125], [1 / 3] * 3, LABEL_COIN + 0.5 * 8 * COIN),
        # 2·0.2 of the others where the teacher gives the label more than half, else 2·0.8 of both parts.
        (UncertaintySplit(), [0.6, 0.3, 0.1], [1 / 3] * 3, 0.4 * COIN),
        (UncertaintySplit(), [0.4, 0.45, 0.15], [0.4, 0.3, 0.3], 1.6 * COIN),
        (UncertaintySplit(threshold=0.4), [0.5, 0.375, 0.125], [1 / 3] * 3, 1.6 * (LABEL_COIN + COIN)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Objective) else "",
)
def test_coins_have_their_closed_form(
    objective: Objective, teacher: list[float], student: list[float], expected: float
) -> None:
    value = values_of(objective, logits_of(student), logits_of(teacher), torch.tensor([LABEL])).item()
    assert value == pytest.approx(expected, rel=1e-12)


def test_the_coins_number_is_what_it_says() -> None:
    assert pytest.approx(0.13081203594113697, rel=1e-14) == COIN


@pytest.mark.parametrize("classes", [2, 10, 50_257])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_certain_teacher_costs_an_ignorant_student_the_logarithm_of_the_classes(
    classes: int, temperature: float
) -> None:
    student = torch.zeros(1, classes, dtype=torch.float64)
    teacher = student.index_fill(1, torch.tensor([1]), 200.0)
    for objective in (ForwardKL(), TopKKL(k=classes)):
        value = values_of(objective, student, teacher, temperature=temperature).item()
        assert value == pytest.approx(math.log(classes), rel=1e-12)


# ---- others' functions ----


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_torch_distributions_agrees(temperature: float) -> None:
    """It sums t · (log t − log s) over probabilities it normalised itself."""
    student, teacher = (torch.tensor([logits], dtype=torch.float64) for logits in (STUDENT, TEACHER))
    p, q = (torch.distributions.Categorical(logits=logits) for logits in (teacher / temperature, student))
    for objective, expected in (
        (ForwardKL(), torch.distributions.kl_divergence(p, q)),
        (ReverseKL(), torch.distributions.kl_divergence(q, p)),
    ):
        value = values_of(objective, student, teacher, temperature=temperature)
        torch.testing.assert_close(value, expected, rtol=1e-13, atol=0.0)


Divergence = Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor]


@pytest.fixture(scope="module")
def trls_jsd() -> Divergence:
    """trl's divergence of each row: 0 is forward KL, 1 reverse KL, between them the generalized JSD; without τ²."""
    gkd = pytest.importorskip("trl.experimental.gkd", reason="the oracle trl is not installed")

    def jsd(student: torch.Tensor, teacher: torch.Tensor, beta: float, temperature: float) -> torch.Tensor:
        loss = gkd.GKDTrainer.generalized_jsd_loss(student, teacher, None, beta, temperature, reduction="none")
        return loss.sum(-1)

    return jsd


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_trls_divergences_agree_in_both_directions(trls_jsd: Divergence, temperature: float) -> None:
    student, teacher = logit_pair(6, 11, seed=3)
    forward, reverse = (trls_jsd(student, teacher, beta, temperature) for beta in (0.0, 1.0))
    for cls, expected in ((ForwardKL, forward), (ReverseKL, reverse), (SymmetricKL, forward + reverse)):
        value = values_of(cls(temperature_on="both"), student, teacher, temperature=temperature)
        torch.testing.assert_close(value, temperature**2 * expected, rtol=RELATIVE, atol=0.0)


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_both_skew_divergences_add_up_to_trls_jsd(trls_jsd: Divergence, alpha: float, temperature: float) -> None:
    """β·KL(p ‖ m) + (1 − β)·KL(q ‖ m) with m = β·p + (1 − β)·q: a skew KL and a skew reverse KL with 1 − β."""
    student, teacher = logit_pair(6, 11, seed=5)
    skew = values_of(SkewKL(alpha=alpha, temperature_on="both"), student, teacher, temperature=temperature)
    reverse = SkewReverseKL(alpha=1 - alpha, temperature_on="both")
    together = alpha * skew + (1 - alpha) * values_of(reverse, student, teacher, temperature=temperature)
    expected = temperature**2 * trls_jsd(student, teacher, alpha, temperature)
    torch.testing.assert_close(together, expected, rtol=RELATIVE, atol=0.0)


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
@pytest.mark.parametrize("k", [1, 3, 10])
def test_trls_top_k_with_a_tail_agrees(k: int) -> None:
    """trl takes the student's top k and KL(student ‖ teacher): ours with the roles swapped."""
    sdpo = pytest.importorskip("trl.experimental.sdpo.loss_utils", reason="the oracle trl is not installed")
    student, teacher = logit_pair(6, 11, seed=7)
    theirs = sdpo.compute_topk_self_distillation_loss(
        teacher, student, distillation_topk=k, distillation_alpha=1.0, distillation_add_tail=True
    )
    torch.testing.assert_close(values_of(TopKKL(k=k), student, teacher), theirs, rtol=RELATIVE, atol=0.0)
