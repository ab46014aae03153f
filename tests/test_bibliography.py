"""Every method that has a paper can be cited by it."""

from __future__ import annotations

import inspect
import re
import sys
from itertools import chain

import pytest

from hf_distill.bibliography import BIBLIOGRAPHY
from hf_distill.curricula import CURRICULA
from hf_distill.curricula.intra import Intra
from hf_distill.hub.citations import DISTILLATION, OF_TEACHERS, PROGRESSIVE
from hf_distill.objectives import OBJECTIVES
from hf_distill.views import VIEWS

METHODS = [registry.get(name) for registry in (OBJECTIVES, CURRICULA, VIEWS) for name in registry.names()]
PASSES = [Intra(), Intra(passes=2, convention="r_drop")]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_cites_papers_that_its_own_file_names_as_sources(method):
    assert set(method.papers) <= BIBLIOGRAPHY.keys()
    text = inspect.getsource(sys.modules[method.__module__])
    assert set(method.papers) <= set(re.findall(r"\b\d{4}\.\d{4,5}\b", re.sub(r"papers: .*", "", text)))


def test_every_paper_is_cited_by_some_method():
    cited = chain(*(method.papers for method in METHODS), *(intra.papers for intra in PASSES), OF_TEACHERS.values())
    assert {*cited, DISTILLATION, PROGRESSIVE} == BIBLIOGRAPHY.keys()


@pytest.mark.parametrize("paper", BIBLIOGRAPHY.values(), ids=lambda paper: paper.key)
def test_an_entry_is_whole_and_its_year_is_that_of_its_number(paper):
    entry = paper.bibtex()
    assert entry.count("{") == entry.count("}")
    assert f"eprint = {{{paper.arxiv}}}" in entry
    assert f"year = {{{re.search('20[0-9]{2}', paper.key)[0]}}}" in entry
    listed = entry.split("author = {")[1].split("}")[0]
    assert listed.split(" and ") == paper.authors.split(", ")


def test_keys_are_unique():
    assert len({paper.key for paper in BIBLIOGRAPHY.values()}) == len(BIBLIOGRAPHY)
