"""LARS equals its formula; the schedule has its corners where they belong."""

import copy

import pytest
import torch
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.train import optim


@pytest.mark.parametrize("rate", [0.5, 1e-3])  # with and without the limit
def test_lars_equals_its_formula(rate):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = optim.make("lars", layer, learning_rate=rate, weight_decay=1e-2)
    m_w, m_b = torch.zeros_like(w), torch.zeros_like(b)
    for _ in range(3):
        layer.weight.grad, layer.bias.grad = torch.randn(3, 4), torch.randn(3)
        g = layer.weight.grad.clone()
        trust = 0.02 * w.norm() / (g.norm() + 1e-2 * w.norm() + 1e-8)
        m_w = 0.9 * m_w + (g + 1e-2 * w) * min(trust / rate, 1)
        m_b = 0.9 * m_b + layer.bias.grad
        w, b = w - rate * m_w, b - rate * m_b
        optimizer.step()
    torch.testing.assert_close(layer.weight.data, w)
    torch.testing.assert_close(layer.bias.data, b)


def test_lars_makes_room_for_its_momentum_once(monkeypatch):
    layer, made = nn.Linear(4, 3), []
    monkeypatch.setattr(torch, "zeros_like", lambda p, zeros=torch.zeros_like: made.append(p) or zeros(p))
    optimizer = optim.make("lars", layer, learning_rate=0.1, weight_decay=0.0)
    for _ in range(3):
        layer.weight.grad, layer.bias.grad = torch.randn(3, 4), torch.randn(3)
        optimizer.step()
    assert len(made) == 2


@pytest.mark.parametrize("name, plain", [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_a_fused_optimizer_takes_torchs_plain_steps_also_after_it_was_restored(name, plain):
    """Convolutions are channels last, and a checkpoint holds their state in another order."""
    torch.manual_seed(0)
    ours, theirs = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    theirs.load_state_dict(ours.state_dict())
    ours.to(memory_format=torch.channels_last)
    optimizer = optim.make(name, ours, learning_rate=0.1, weight_decay=0.01)
    reference = plain(theirs.parameters(), lr=0.1, weight_decay=0.01, foreach=False)
    reference.param_groups[0].update(momentum=0.9) if name == "sgd" else None
    for step in range(4):
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = torch.randn(other.shape)
            weight.grad = torch.empty_like(weight).copy_(other.grad)
        if step == 2:
            state = copy.deepcopy(optimizer.state_dict())
            for values in state["state"].values():
                values.update({key: value.contiguous() for key, value in values.items() if torch.is_tensor(value)})
            optimizer.load_state_dict(state)
            runtime.align(optimizer)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours.weight.contiguous(), theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_an_unknown_optimizer_is_answered_with_the_nearest():
    with pytest.raises(Problem, match="unknown optimizer 'lasr' .did you mean 'lars'"):
        optim.make("lasr", nn.Linear(2, 2), learning_rate=0.1, weight_decay=0.0)


def test_momentum_copies_are_not_optimised():
    module = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)])
    for name in ("sgd", "lars", "adamw"):
        groups = optim.make(name, module, learning_rate=0.1, weight_decay=0.0).param_groups
        assert [p is q for p, q in zip(groups[0]["params"], module[0].parameters(), strict=True)] == [True, True]


def test_schedule():
    factors = [optim.warmup_cosine(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.002) and factors[10] == 1 and factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0) and factors[1:10] == sorted(factors[1:10])
    assert optim.warmup_cosine(0, 10, 0) == 1
