from __future__ import annotations

from types import SimpleNamespace

import pytest
from accelerate import Accelerator, DistributedType

from hf_distill.teachers.sharding import refuse_sharding


@pytest.mark.parametrize("engine", [DistributedType.DEEPSPEED, DistributedType.FSDP])
def test_an_engine_that_splits_models_is_refused_with_the_reason(engine):
    with pytest.raises(ValueError, match=rf"on every rank \(because of that\), but {engine.value} splits them"):
        refuse_sharding(SimpleNamespace(distributed_type=engine), "because of that")


def test_whole_models_are_not_refused():
    assert refuse_sharding(Accelerator(cpu=True), "no reason") is None
    assert refuse_sharding(None, "no reason") is None
