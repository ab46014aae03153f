from __future__ import annotations

from types import SimpleNamespace

import pytest
from accelerate import Accelerator, DistributedType
from source_cases import CASES

from hf_distill.teachers.sharding import refuse_sharding


@pytest.mark.parametrize("engine", [DistributedType.DEEPSPEED, DistributedType.FSDP])
def test_an_engine_that_splits_models_is_refused_with_the_reason(engine):
    with pytest.raises(ValueError, match=rf"on every rank \(because of that\), but {engine.value} splits them"):
        refuse_sharding(SimpleNamespace(distributed_type=engine), "because of that")


def test_whole_models_are_not_refused():
    assert refuse_sharding(Accelerator(cpu=True), "no reason") is None
    assert refuse_sharding(None, "no reason") is None


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.of_student or case.name == "ladder"], ids=lambda case: case.name
)
def test_teachers_that_need_whole_models_refuse_it_before_anything_else(case, tmp_path):
    sharded = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(ValueError, match="needs whole models on every rank"):
        case.build(tmp_path).attach(head="classification", accelerator=sharded)
