"""Each loss equals the formula of its paper, written out in loops, and a peer's implementation."""

import math

import pytest
import torch
import torch.nn.functional as F

from synpos_lib.methods.all4one import feature_redundancy, positions
from synpos_lib.methods.barlow_twins import redundancy
from synpos_lib.methods.byol import prediction_error
from synpos_lib.methods.clsp import pull
from synpos_lib.methods.dcl import decoupled
from synpos_lib.methods.dino import distillation
from synpos_lib.methods.feature_transformation import extrapolate, interpolate, transformed_nt_xent
from synpos_lib.methods.moco_v2 import info_nce
from synpos_lib.methods.moco_v3 import in_batch_info_nce
from synpos_lib.methods.nnclr import neighbour_contrast
from synpos_lib.methods.simclr import nt_xent
from synpos_lib.methods.supcon import supervised_contrast
from synpos_lib.methods.swav import sinkhorn, swapped_prediction
from synpos_lib.methods.vibcreg import correlation, iterative_norm
from synpos_lib.methods.vicreg import covariance, invariance, variance

B, D = 6, 8
close = torch.testing.assert_close


@pytest.fixture
def z():
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(B, D, generator=draw) for _ in range(4)]


def unit(v):
    return v / v.norm()


def pairs(z0, z1):
    """All views, and for each the index of its other view."""
    views = [unit(v) for v in (*z0, *z1)]
    return views, [(i + len(z0)) % (2 * len(z0)) for i in range(2 * len(z0))]


def test_nt_xent(z):
    views, other = pairs(z[0], z[1])
    expected = 0.0
    for i, v in enumerate(views):
        below = sum(math.exp(v @ views[k] / 0.2) for k in range(2 * B) if k != i)
        expected -= math.log(math.exp(v @ views[other[i]] / 0.2) / below) / (2 * B)
    assert nt_xent(z[0], z[1], temperature=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_dcl(z):
    views, other = pairs(z[0], z[1])
    expected = 0.0
    for i, v in enumerate(views):
        below = sum(math.exp(v @ views[k] / 0.2) for k in range(2 * B) if k not in (i, other[i]))
        expected += (-(v @ views[other[i]]) / 0.2 + math.log(below)).item() / (2 * B)
    assert decoupled(z[0], z[1], temperature=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_supcon(z):
    y = torch.tensor([0, 1, 0, 2, 1, 0])
    views, labels = [unit(v) for v in (*z[0], *z[1])], [*y.tolist(), *y.tolist()]
    expected = 0.0
    for i, v in enumerate(views):
        below = sum(math.exp(v @ views[k] / 0.2) for k in range(2 * B) if k != i)
        friends = [p for p in range(2 * B) if p != i and labels[p] == labels[i]]
        terms = [math.log(math.exp(v @ views[p] / 0.2) / below) for p in friends]
        expected -= sum(terms) / len(friends) / (2 * B)
    assert supervised_contrast(z[0], z[1], y, temperature=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_supcon_without_shared_labels_is_simclr(z):
    close(supervised_contrast(z[0], z[1], torch.arange(B), temperature=0.2), nt_xent(z[0], z[1], temperature=0.2))


def test_info_nce_with_a_queue(z):
    q, k, queue = F.normalize(z[0], dim=1), F.normalize(z[1], dim=1), F.normalize(torch.cat(z[2:]), dim=1)
    expected = 0.0
    for i in range(B):
        above = math.exp(q[i] @ k[i] / 0.2)
        expected -= math.log(above / (above + sum(math.exp(q[i] @ n / 0.2) for n in queue))) / B
    assert info_nce(q, k, queue, temperature=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_info_nce_in_the_batch(z):
    q, k = F.normalize(z[0], dim=1), F.normalize(z[1], dim=1)
    expected = 0.0
    for i in range(B):
        expected -= math.log(math.exp(q[i] @ k[i] / 0.2) / sum(math.exp(q[i] @ n / 0.2) for n in k)) / B
    assert neighbour_contrast(z[0], z[1], temperature=0.2).item() == pytest.approx(expected, rel=1e-5)
    assert in_batch_info_nce(z[0], z[1], temperature=0.2).item() == pytest.approx(2 * 0.2 * expected, rel=1e-5)


def test_prediction_error(z):
    expected = sum((unit(p) - unit(t)).square().sum().item() for p, t in zip(z[0], z[1], strict=True)) / B
    assert prediction_error(z[0], z[1]).item() == pytest.approx(expected, rel=1e-5)
    assert pull(z[0], z[1]).item() == pytest.approx(expected, rel=1e-5)


def test_distillation(z):
    center = z[2][0]
    expected = 0.0
    for s, t in zip(z[0], z[1], strict=True):
        p = [math.exp((t[k] - center[k]) / 0.07) for k in range(D)]
        q = [math.exp(s[k] / 0.1) for k in range(D)]
        expected -= sum(p[k] / sum(p) * math.log(q[k] / sum(q)) for k in range(D)) / B
    assert distillation(z[0], z[1], center, tau_s=0.1, tau_t=0.07).item() == pytest.approx(expected, rel=1e-5)


def test_barlow_twins(z):
    z0, z1 = ((v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in z[:2])
    on = off = 0.0
    for i in range(D):
        for j in range(D):
            c = sum(z0[b, i] * z1[b, j] for b in range(B)).item() / B
            on, off = (on + (c - 1) ** 2, off) if i == j else (on, off + c**2)
    invariant, redundant = redundancy(z[0], z[1])
    assert invariant.item() == pytest.approx(on, rel=1e-4) and redundant.item() == pytest.approx(off, rel=1e-4)


def test_vicreg(z):
    v, c = 0.0, 0.0
    centred = z[0] - z[0].mean(0)
    for i in range(D):
        v += max(0, 1 - math.sqrt(centred[:, i].square().sum().item() / (B - 1) + 1e-4)) / D
        for j in range(D):
            if i != j:
                c += (centred[:, i] @ centred[:, j] / (B - 1)).item() ** 2 / D
    assert variance(z[0]).item() == pytest.approx(v, rel=1e-5)
    assert covariance(z[0]).item() == pytest.approx(c, rel=1e-5)
    assert invariance(z[0], z[1]).item() == pytest.approx((z[0] - z[1]).square().sum().item() / B / D, rel=1e-5)


def test_vibcreg_correlation(z):
    expected = (torch.corrcoef(z[0].T).square().sum() - D) / D**2
    close(correlation(z[0]), expected)


def test_iterative_norm_whitens():
    z = torch.randn(512, 16, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        16, 16, generator=torch.Generator().manual_seed(1)
    ).mul(0.1).add(torch.eye(16))
    white = iterative_norm(z, group=8, iterations=12)
    for group in white.split(8, dim=1):
        close(group.T @ group / 512, torch.eye(8), atol=2e-3, rtol=0)


def test_iterative_norm_is_newtons_iteration(z):
    x = (z[0] - z[0].mean(0)).T  # (D, B)
    sigma = x @ x.T / B + 1e-5 * torch.eye(D)
    p = torch.eye(D)
    for _ in range(5):
        p = 0.5 * (3 * p - torch.linalg.matrix_power(p, 3) @ sigma / sigma.trace())
    close(iterative_norm(z[0], group=D), (p @ x / sigma.trace().sqrt()).T)


def test_swapped_prediction(z):
    q = z[1].softmax(1)
    expected = 0.0
    for s, code in zip(z[0], q, strict=True):
        below = sum(math.exp(v / 0.1) for v in s)
        expected -= sum(code[k].item() * math.log(math.exp(s[k] / 0.1) / below) for k in range(D)) / B
    assert swapped_prediction(z[0], q, temperature=0.1).item() == pytest.approx(expected, rel=1e-5)


def test_feature_redundancy(z):
    def correlations(t, v):
        return [[(unit(t[:, i]) @ unit(v[:, j])).item() for j in range(D)] for i in range(D)]

    both = [correlations(z[0], z[3]), correlations(z[2], z[1])]
    on = sum((c[i][i] - 1) ** 2 for c in both for i in range(D)) / D / 2
    off = sum(c[i][j] ** 2 for c in both for i in range(D) for j in range(D) if i != j) / D / (D - 1) / 2
    expected = 10 * (0.5 * math.sqrt(on) + 0.5 * math.sqrt(off))
    assert feature_redundancy(z[0], z[1], z[2], z[3]).item() == pytest.approx(expected, rel=1e-5)


def test_positions_are_sinusoids():
    code = positions(5, 6)
    for p in range(5):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            close(code[p, 2 * i : 2 * i + 2], torch.tensor([math.sin(angle), math.cos(angle)]))


def test_feature_transformation(z):
    z0, z1 = F.normalize(z[0], dim=1), F.normalize(z[1], dim=1)
    order = torch.tensor([7, 3, 11, 0, 1, 5, 9, 2, 4, 10, 8, 6])
    views, other = pairs(z[0], z[1])
    a, b = 1.4, 0.3
    expected = 0.0
    for i in range(2 * B):
        q = a * views[i] + (1 - a) * views[other[i]]
        k = a * views[other[i]] + (1 - a) * views[i]
        below = above = math.exp(q @ k / 0.2)
        for n in range(2 * B):
            if n % B != i % B and order[n] % B != i % B:
                below += math.exp(q @ (b * views[n] + (1 - b) * views[order[n]]) / 0.2)
        expected -= math.log(above / below) / (2 * B)
    loss = transformed_nt_xent(z[0], z[1], order, a=a, b=b, temperature=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    q, k = extrapolate(z0, z1, a)
    assert (q * k).sum(1).lt((z0 * z1).sum(1) + 1e-6).all()  # the pair got harder
    close(interpolate(z0, torch.arange(B), b), z0)


def test_sinkhorn_marginals():
    scores = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    q = sinkhorn(scores, epsilon=0.5, iterations=50)
    close(q.sum(1), torch.ones(12))
    close(q.sum(0), torch.full((4,), 3.0), atol=1e-4, rtol=0)
    assert sinkhorn(scores * 100, epsilon=0.05).isfinite().all()  # exp would overflow without the shift


# ---------------------------------------------------------------------------------------- closed forms


def test_collapsed_embeddings():
    one = torch.ones(B, D)
    assert nt_xent(one, one, temperature=0.2).item() == pytest.approx(math.log(2 * B - 1), rel=1e-5)
    assert decoupled(one, one, temperature=0.2).item() == pytest.approx(math.log(2 * B - 2), rel=1e-5)
    assert info_nce(
        unit(one[0]).expand(B, D), unit(one[0]).expand(B, D), unit(one[0]).expand(9, D), temperature=0.2
    ).item() == (pytest.approx(math.log(10), rel=1e-5))
    assert prediction_error(one, one).item() == pytest.approx(0, abs=1e-5)  # BYOL's loss does not mind collapse
    assert variance(one).item() == pytest.approx(1 - 1e-2, rel=1e-5)  # VICReg's does
    assert redundancy(one, one)[0].item() == pytest.approx(D, rel=1e-5)
    uniform = torch.zeros(B, D)
    assert distillation(uniform, uniform, torch.zeros(D), tau_s=0.1, tau_t=0.07).item() == pytest.approx(
        math.log(D), rel=1e-5
    )


def test_perfect_embeddings():
    z = torch.eye(B)
    expected = -math.log(math.exp(5) / (math.exp(5) + 2 * B - 2))
    assert nt_xent(z, z, temperature=0.2).item() == pytest.approx(expected, rel=1e-4)
    assert pull(z, -z).item() == pytest.approx(4, rel=1e-5)


# --------------------------------------------------------------------------------------------- lightly


def test_lightly_agrees(z):
    loss = pytest.importorskip("lightly.loss")
    a, b = z[:2]
    close(nt_xent(a, b, temperature=0.2), loss.NTXentLoss(temperature=0.2)(a, b))
    close(decoupled(a, b, temperature=0.2), loss.DCLLoss(temperature=0.2)(a, b))
    close(prediction_error(a, b), 2 + 2 * loss.NegativeCosineSimilarity()(a, b))
    first, second = redundancy(a, b)
    close(first + 0.0051 * second, loss.BarlowTwinsLoss(lambda_param=0.0051)(a, b), rtol=1e-4, atol=1e-4)
    ours = 25 * invariance(a, b) + 25 * (variance(a) + variance(b)) + covariance(a) + covariance(b)
    close(ours, loss.VICRegLoss(mu_param=50.0)(a, b))
    dino = loss.DINOLoss(output_dim=D, teacher_temp=0.07, warmup_teacher_temp_epochs=0)
    ours = (
        distillation(a, z[3], torch.zeros(D), tau_s=0.1, tau_t=0.07)
        + distillation(b, z[2], torch.zeros(D), tau_s=0.1, tau_t=0.07)
    ) / 2
    close(ours, dino([z[2], z[3]], [a, b]))


def test_lightly_agrees_on_swav(z):
    lightly = pytest.importorskip("lightly.loss.swav_loss")
    s0, s1 = torch.tanh(z[0]), torch.tanh(z[1])
    close(sinkhorn(s0, epsilon=0.05), lightly.sinkhorn(s0, iterations=3, epsilon=0.05), atol=1e-5, rtol=1e-4)
    q0, q1 = sinkhorn(s0, epsilon=0.05), sinkhorn(s1, epsilon=0.05)
    ours = (swapped_prediction(s1, q0, temperature=0.1) + swapped_prediction(s0, q1, temperature=0.1)) / 2
    close(ours, lightly.SwaVLoss(temperature=0.1)([s0, s1], [])[0], atol=1e-5, rtol=1e-4)


def test_lightly_agrees_on_queues(z):
    lightly = pytest.importorskip("lightly.loss")
    memory = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(12, D))
    bank = F.normalize(torch.cat(z[2:]), dim=1)
    memory.memory_bank.bank = bank.clone()
    ours = info_nce(F.normalize(z[0], dim=1), F.normalize(z[1], dim=1), bank, temperature=0.2)
    close(ours, memory(z[0], z[1]))
