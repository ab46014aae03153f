"""A batch without a view's inputs is refused with what to do."""

from __future__ import annotations

import pytest
import torch
from view_cases import context_of, pixel_batch, view_of

from hf_distill.views import ModelOfView
from hf_distill.views.base import batch_tensor


def test_a_missing_input_is_named():
    with pytest.raises(ValueError, match=r"'cutmix' changes `pixel_values`, but the batch has \['a', 'b'\]; do this"):
        batch_tensor({"b": torch.ones(1), "a": torch.ones(1)}, "pixel_values", view="cutmix", instead="do this")


def test_models_read_a_common_view_alike():
    view, batch = view_of("cutmix"), pixel_batch()
    augmented = view.augment(batch, context_of("classification"))
    read = view.inputs_for(augmented, ModelOfView("student", torch.nn.Identity(), frozenset()))
    assert not view.per_model
    assert read == augmented
