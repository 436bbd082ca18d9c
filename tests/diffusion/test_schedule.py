"""The forward process against the chain of its single steps, and the targets against what they stand for."""

import pytest
import torch

from synpos_lib.diffusion import schedule


def test_q_sample_is_the_chain_of_single_steps():
    """q(x_t | x_0) in closed form against the product of T single noising steps (mean and variance)."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    mean, variance = 1.0, 0.0
    for t in range(500):
        mean, variance = (1 - beta[t]).sqrt() * mean, (1 - beta[t]) * variance + beta[t]
    x, eps = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    expected = 2 * mean - variance.sqrt()
    assert schedule.q_sample(x, torch.tensor([499]), eps).item() == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_gives_back_the_image(prediction):
    torch.manual_seed(1)
    x, t = torch.randn(4, 3, 16, 16), torch.tensor([3, 250, 600, 999])
    eps = torch.randn_like(x)
    x_t, y = schedule.q_sample(x, t, eps), schedule.target(x, t, eps, prediction)
    a = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)[t].view(-1, 1, 1, 1).float()
    x0 = (x_t - (1 - a).sqrt() * y) / a.sqrt() if prediction == "epsilon" else a.sqrt() * x_t - (1 - a).sqrt() * y
    assert torch.allclose(x0[:3], x[:3], atol=1e-3)
