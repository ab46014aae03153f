from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_distill.cache.output_head import load_head, save_head
from hf_distill.kernels.head_rows import HeadRows


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.0625, 30.0)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_head_comes_back_with_all_that_makes_logits(tmp_path: Path, kind, scale, softcap, bias) -> None:
    rows = HeadRows(
        hidden_RH=torch.randn(3, 4).to(kind),
        weight_VH=torch.randn(7, 4).to(kind).requires_grad_(),
        bias_V=torch.randn(7).to(kind) if bias else None,
        scale=scale,
        softcap=softcap,
    )
    written = save_head(tmp_path, rows, commit="abc")
    head = load_head(tmp_path / written.name, device=torch.device("cpu"))
    assert head.rows(rows.hidden_RH).logits().equal(rows.logits().detach())
    assert not head.weight_VH.requires_grad


def test_heads_of_two_revisions_are_two_files_even_where_they_are_equal(tmp_path: Path) -> None:
    rows = HeadRows(hidden_RH=torch.zeros(1, 2), weight_VH=torch.ones(3, 2))
    assert save_head(tmp_path, rows, commit="a").name != save_head(tmp_path, rows, commit="b").name
