"""Optimizers of recipes: what effnas changes about timm's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effnas.config.recipe import Recipe
from effnas.train.optimizers import make_optimizer


@pytest.mark.parametrize("name", ["muon", "nmuon"])
def test_muon_makes_orthogonal_updates_in_float32_on_a_cpu(name: str) -> None:
    """In bfloat16, as timm does, they would take 20 times as long."""
    muon = pytest.importorskip("timm.optim.muon")
    layer = nn.Linear(16, 8, bias=False)
    recipe = Recipe(optimizer=name, learning_rate_per_256=1.0, batch_size=256, weight_decay=0.0)
    for _ in range(2):  # made twice, it is the same
        optimizer = make_optimizer(layer, recipe, torch.device("cpu"))
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.diag(torch.arange(1.0, 9.0)).repeat(1, 2)  # singular values 1 : 8
    optimizer.step()
    singular = torch.linalg.svdvals(before - layer.weight.detach())
    assert singular.max() / singular.min() < 2
    found = muon.zeropower_via_newtonschulz(torch.eye(4), 1, [(1.0, 0.0, 0.0)])
    assert found.dtype is torch.float32
