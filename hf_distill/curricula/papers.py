"""Which papers a student's training goes back to."""

from __future__ import annotations

from collections.abc import Iterator

from hf_distill.curricula.base import Curriculum
from hf_distill.curricula.intra import build_intra
from hf_distill.curricula.plan import Plan


def papers_of(curriculum: Curriculum, plan: Plan) -> list[str]:
    """Return the arXiv ids behind a curriculum, its passes, objectives and views, each once, in this order."""
    return list(dict.fromkeys(_papers(curriculum, plan)))


def _papers(curriculum: Curriculum, plan: Plan) -> Iterator[str]:
    yield from curriculum.papers
    intra = build_intra(curriculum.intra)
    if intra is not None:
        yield from intra.papers
    # What is compared on the stages of a curriculum's own layers is the curriculum's idea.
    terms = [term for stage in plan.stages if stage.layers is None for term in stage.terms]
    for term in terms:
        yield from term.objective.papers
    for term in terms:
        if term.view is not None:
            yield from term.view.view.papers
