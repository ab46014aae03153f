"""Ways to compare a student's head with a teacher's, with gradients: ours, other libraries' and the floor."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from side_by_side import CPU
from torch import Tensor

from hf_distill.kernels import HeadRows, RowTerm, dense_loss, tiled_loss
from hf_distill.objectives import GeneralizedJSD

FLOOR = "four products"


class Heads:
    """Random rows and heads of a student (256 wide) and a teacher (512 wide) in float32, and the ways to compare them.

    The floor is the four products that no way can avoid: logits of both, gradients of hidden states and head. All
    other ways compute the mean over tokens of the generalized JSD, for beta = 0 the forward KL.
    """

    def __init__(self, tokens: int, vocabulary: int, beta: float, device: torch.device = CPU) -> None:
        torch.manual_seed(0)
        hidden = [torch.randn(tokens, width) for width in (256, 512)]
        weights = [torch.randn(vocabulary, width) * 0.05 for width in (256, 512)]
        self.hidden, self.teacher_hidden = (one.to(device) for one in hidden)
        self.weight, self.teacher_weight = (one.to(device) for one in weights)
        self.leaves = [self.hidden.requires_grad_(), self.weight.requires_grad_()]
        self.beta = beta
        ways = {FLOOR: self.products, "tiles": self.tiles, "whole logits": self.whole, "trl dense": self.trl_dense}
        self.ways: dict[str, Callable[[], object]] = {**ways, "trl tiles": self.trl_tiles, "liger chunks": self.liger}

    def backward(self, loss: Tensor) -> None:
        for leaf in self.leaves:
            leaf.grad = None
        loss.backward()

    def ours(self, way: Callable, **more: int) -> None:
        student = HeadRows(hidden_RH=self.hidden, weight_VH=self.weight)
        teacher = HeadRows(hidden_RH=self.teacher_hidden, weight_VH=self.teacher_weight)
        terms = [RowTerm(objective=GeneralizedJSD(beta=self.beta))]
        self.backward(way(student, terms, teacher=teacher, scale=1 / len(self.hidden), **more).loss)

    def tiles(self) -> None:
        self.ours(tiled_loss)

    def whole(self) -> None:
        self.ours(dense_loss)

    @torch.no_grad()
    def products(self) -> list[Tensor]:
        student = self.hidden @ self.weight.t()
        teacher = self.teacher_hidden @ self.teacher_weight.t()
        return [teacher, student @ self.weight, student.t() @ self.hidden]

    def trl_dense(self) -> None:
        trainer = importlib.import_module("trl.experimental.gkd.gkd_trainer").GKDTrainer
        with torch.no_grad():
            teacher = self.teacher_hidden @ self.teacher_weight.t()
        # As its trainer calls it: with labels, of which every one counts here.
        labels = torch.zeros(len(self.hidden), dtype=torch.long, device=self.hidden.device)
        student = self.hidden @ self.weight.t()
        self.backward(trainer.generalized_jsd_loss(student, teacher, labels=labels, beta=self.beta))

    def trl_tiles(self) -> None:
        function = importlib.import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
        heads = (self.hidden, self.weight, None, self.teacher_hidden, self.teacher_weight, None)
        self.backward(function.apply(*heads, self.beta)[0].mean())

    def liger(self) -> None:
        loss = importlib.import_module("liger_kernel.chunked_loss.jsd_loss").LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=self.beta, compiled=False
        )
        labels = torch.zeros(len(self.hidden), dtype=torch.long, device=self.hidden.device)
        self.backward(loss(self.hidden, self.weight, self.teacher_hidden, self.teacher_weight, labels))


def available(beta: float, device: torch.device = CPU) -> list[str]:
    """Return the ways that can be imported here, after one small run of each."""
    heads, names = Heads(32, 64, beta, device), []
    for name, way in heads.ways.items():
        try:
            way()
            names.append(name)
        except ImportError as error:
            print(f"{name}: absent here ({error})")
    return names
