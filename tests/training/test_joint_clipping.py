"""A student that is clipped by its own norm, and stepped, by its engine ends where one norm of all would have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_distill.training.joint_clipping import JointClipping

STUDENT, BESIDE = ([3.0, -1.0], [2.0, 2.0]), ([1.0, 5.0],)


def parameters(gradients: tuple[list[float], ...], *, scale: float = 1.0) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        made.append(nn.Parameter(torch.zeros(len(gradient), dtype=torch.float64)))
        made[-1].grad = scale * torch.tensor(gradient, dtype=torch.float64)
    return made


class ZeroLike:
    """As much of DeepSpeed's engine as steps: own norm, own clipping, and one group of parameters after the other."""

    def __init__(self, student: list[nn.Parameter], most: float, scale: float = 1.0) -> None:
        self.basic_optimizer: Any = torch.optim.SGD([{"params": [one]} for one in student], lr=1.0)
        self.optimizer = SimpleNamespace(loss_scale=scale, _global_grad_norm=0.0)
        self.global_steps = 0
        self._most = most

    def gradient_clipping(self) -> float:
        return self._most

    def fp16_enabled(self) -> bool:
        return self.optimizer.loss_scale != 1.0

    def step(self, *, next_scale: float | None = None) -> None:
        scale, groups = self.optimizer.loss_scale, self.basic_optimizer.param_groups
        gradients = [group["params"][0].grad.div_(scale) for group in groups]
        self.optimizer._global_grad_norm = torch.nn.utils.get_total_norm(gradients)
        self.optimizer.loss_scale = next_scale or scale
        torch.nn.utils.clip_grads_with_norm_(
            [group["params"][0] for group in groups], self._most or torch.inf, self.optimizer._global_grad_norm
        )
        for group in groups:
            self.basic_optimizer.param_groups = [group]
            self.basic_optimizer.step()
        self.basic_optimizer.param_groups = groups
        self.global_steps += 1


def expected(most: float) -> list[Tensor]:
    """What the norm of all leaves of the gradients of student and others."""
    made = [*parameters(STUDENT), *parameters(BESIDE)]
    torch.nn.utils.clip_grad_norm_(made, most or torch.inf)
    return [one.grad for one in made if one.grad is not None]


@pytest.mark.parametrize("most", [0.0, 0.5, 5.0, 6.5, 100.0], ids=["off", "all", "both", "only jointly", "none"])
def test_what_is_left_of_gradients_is_what_their_joint_norm_leaves(most: float) -> None:
    student, beside = parameters(STUDENT), parameters(BESIDE)
    engine = ZeroLike(student, most)
    joint = JointClipping(engine, lambda: [one.grad for one in beside])
    joint.open()
    engine.step()
    found = [*(-one.detach() for one in student), *(one.grad for one in beside)]
    torch.testing.assert_close(found, expected(most), rtol=1e-6, atol=0)
    assert joint.beside == pytest.approx(26**0.5)


def test_a_loss_scale_is_taken_out_though_it_has_changed_by_then() -> None:
    student, beside = parameters(STUDENT, scale=8.0), parameters(BESIDE, scale=8.0)
    engine = ZeroLike(student, 2.0, scale=8.0)
    joint = JointClipping(engine, lambda: [one.grad for one in beside])
    joint.open()
    engine.step(next_scale=16.0)
    assert joint.stepped
    for one, gradient in zip([*student, *beside], [*STUDENT, *BESIDE], strict=True):
        one.data.zero_()
        one.grad = 16.0 * torch.tensor(gradient, dtype=torch.float64)
    joint.open()
    engine.step()
    found = [*(-one.detach() for one in student), *(one.grad for one in beside)]
    torch.testing.assert_close(found, expected(2.0), rtol=1e-6, atol=0)


def test_a_removed_one_leaves_the_optimizer_alone() -> None:
    student, beside = parameters(STUDENT), parameters(BESIDE)
    engine = ZeroLike(student, 0.0)
    JointClipping(engine, lambda: [one.grad for one in beside]).remove()
    engine.step()
    assert [one.grad.tolist() for one in beside] == [*BESIDE]
