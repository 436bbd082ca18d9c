"""What each method compares: its two directions, its weights and its second network, against its docstring."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nearly import same_numbers
from test_methods import images, small

from synpos_lib.methods import feature_transformation as ft
from synpos_lib.methods.all4one import feature_redundancy
from synpos_lib.methods.clsp import CLSP, pull
from synpos_lib.methods.moco_v2 import info_nce
from synpos_lib.methods.parts import Queue
from synpos_lib.methods.simclr import SimCLR, nt_xent
from synpos_lib.methods.swav import sinkhorn
from synpos_lib.methods.vibcreg import iterative_norm


def cos(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def rows(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)))


def byol(m, z, t, k):
    return sum(2 - 2 * F.cosine_similarity(m.predictor(z[i]), t[1 - i]).mean() for i in (0, 1))


def mocov2(m, z, t, k):
    q, key = ([F.normalize(v, dim=1) for v in part] for part in (z, t))
    return sum(info_nce(q[i], key[1 - i], k[1 - i], temperature=0.2) for i in (0, 1)) / 2


def mocov3(m, z, t, k):
    return sum(2 * 0.2 * rows(cos(m.predictor(z[i]), t[1 - i]) / 0.2) for i in (0, 1))


def dino(m, z, t, k):
    p = [((cos(v, m.target_prototypes) - m.center) / 0.07).softmax(1) for v in t]
    return -sum((p[1 - i] * (cos(z[i], m.prototypes) / 0.1).log_softmax(1)).sum(1).mean() for i in (0, 1)) / 2


def swav(m, z, t, k):
    s = [cos(v, m.prototypes) for v in z]
    q = [sinkhorn(v, epsilon=0.05) for v in s]
    return -sum((q[1 - i] * (s[i] / 0.1).log_softmax(1)).sum(1).mean() for i in (0, 1)) / 2


def nnclr(m, z, t, k):
    near = [torch.stack([k[0][cos(v[None], k[0]).argmax()] for v in part]) for part in z]
    return sum(rows(cos(near[i], m.predictor(z[1 - i])) / 0.2) for i in (0, 1)) / 2


def barlow(m, z, t, k):
    a, b = ((v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in z)
    c = a.T @ b / len(a)
    on, off = (c.diagonal() - 1).square().sum(), (c - c.diagonal().diag()).square().sum()
    return 0.1 * (on + 0.0051 * off)


def vicreg(m, z, t, k):
    std = sum(F.relu(1 - (v.var(0) + 1e-4).sqrt()).mean() for v in z)
    cov = sum((torch.cov(v.T) - torch.cov(v.T).diagonal().diag()).square().sum() / v.shape[1] for v in z)
    return 25 * (z[0] - z[1]).square().mean() + 25 * std + cov


def vibcreg(m, z, t, k):
    z = [iterative_norm(v, group=4) for v in z]
    corr = sum((torch.corrcoef(v.T) - torch.eye(v.shape[1])).square().sum() / v.shape[1] ** 2 for v in z)
    std = sum(F.relu(1 - (v.var(0) + 1e-4).sqrt()).mean() for v in z)
    return 25 * (z[0] - z[1]).square().mean() + 25 * std + 200 * corr


def all4one(m, z, t, k):
    t = [F.normalize(v, dim=1) for v in t]
    near = [k[0][cos(v, k[0]).argsort(dim=1, descending=True)[:, :5]] for v in t]
    psi = lambda tokens: m.transformer(tokens + m.positions)[:, 0]  # noqa: E731
    c = [psi(v) for v in near]
    s = [psi(torch.cat([m.centroid_predictor(z[i])[:, None], near[i][:, :4]], 1)) for i in (0, 1)]
    first = sum(rows(cos(near[i][:, 0], m.predictor(z[1 - i])) / 0.2) for i in (0, 1)) / 2
    centroid = sum(rows(cos(c[i], s[1 - i]) / 0.1) for i in (0, 1)) / 2
    return (first + centroid + feature_redundancy(t[0], z[0], t[1], z[1])) / 2


FORMULAS = [byol, mocov2, mocov3, dino, swav, nnclr, barlow, vicreg, vibcreg, all4one]


def stirred(name, **how):
    """A method whose second network, prototypes and centre are none of them what the first one has."""
    method, draw = small(name, **how), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in [
            *method.parameters(),
            *(b for n, b in method.named_buffers() if n in ("target_prototypes", "center")),
        ]:
            value += 0.3 * torch.randn(value.shape, generator=draw)
    return method


@pytest.mark.parametrize("formula", FORMULAS)
def test_compare_is_the_formula_of_its_docstring(formula):
    method = stirred(formula.__name__)
    if hasattr(method, "transformer"):
        method.transformer.eval()  # no dropout
    z = copy.deepcopy(method).embed(*images(count=2))
    t = copy.deepcopy(method).embed_target(*images(count=2)) if method.target_encoder else None
    queues = [part.keys.clone() for name, part in method.named_children() if name.startswith("queue")]
    torch.testing.assert_close(method.loss(images(count=2))[0], formula(copy.deepcopy(method), z, t, queues))


@pytest.mark.parametrize("name", ["mocov2", "mocov3", "byol", "dino", "all4one"])
def test_all_of_the_second_network_follows_as_scheduled(name):
    method = stirred(name, tau=(0.5, 1.0))
    pairs = [(method.target_encoder, method.encoder), (method.target_projector, method.projector)]
    pairs = [pair for target, online in pairs for pair in zip(target.parameters(), online.parameters(), strict=True)]
    pairs += [(method.target_prototypes, method.prototypes)] if name == "dino" else []
    expected = [0.75 * theirs + 0.25 * ours for theirs, ours in pairs]  # half-way: tau = 0.75
    method.after_step(0.5)
    for (theirs, _), wanted in zip(pairs, expected, strict=True):
        torch.testing.assert_close(theirs.data, wanted.data)


def test_gradients_reach_anchor_and_positive_through_the_wrapper():
    z0, z1, z2 = (v.requires_grad_() for v in torch.randn(3, 6, 8))
    method = CLSP(SimCLR(torch.nn.Identity(), 8, hidden=16, out=8), pull_weight=0.7)
    found = torch.autograd.grad(method.loss([z0, z1], z2)[0], [z0, z2])
    p = method.base.projector
    loss = nt_xent(p(z0), p(z1), temperature=0.2) + 0.7 * pull(p(z0), p(z2))
    torch.testing.assert_close(found, torch.autograd.grad(loss, [z0, z2]))


def test_losses_stay_in_float32_under_autocast():
    z = torch.randn(2, 64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(*z, temperature=0.2), nt_xent(*z.float(), temperature=0.2))
        inside = nt_xent(*z, temperature=0.2)
    assert torch.equal(inside, nt_xent(*z, temperature=0.2))


def test_clgan_turns_the_contrast_around_for_the_generators_only():
    torch.manual_seed(0)
    grads = []
    for hardness in (1.0, -1.0):
        torch.manual_seed(0)
        method = small("clgan", hardness=hardness)
        method.after_step(1.0)  # the tie between the generators has gone
        torch.manual_seed(5)
        total, parts = method.loss(images(count=2))
        first = next(method.generator0.parameters())
        encoder = next(method.encoder.parameters())
        grads.append(torch.autograd.grad(total, [first, encoder]))
    assert torch.equal(grads[0][1], grads[1][1]) and not same_numbers(grads[0][0], grads[1][0])


@pytest.mark.parametrize("name", ["nnclr", "swav", "all4one"])
def test_queues_take_unit_projections_after_the_step(name):
    method = stirred(name)
    source = copy.deepcopy(method)
    z = (source.embed_target if name == "all4one" else source.embed)(*images(count=2))
    method.loss(images(count=2))
    method.after_step(0.5)
    queues = [part for n, part in method.named_children() if n.startswith("queue")]
    for queue, part in zip(queues, z, strict=False):
        torch.testing.assert_close(queue.keys[:8], F.normalize(part, dim=1))


@pytest.mark.parametrize("name", ["simclr-ft", "mocov2-ft"])
def test_feature_transformation_draws_harder_positives(name):
    seen = []
    original = ft.extrapolate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ft, "extrapolate", lambda q, k, a: seen.append(a) or original(q, k, a))
        for seed in range(50):
            torch.manual_seed(seed)
            small(name).loss(images(count=2))
    assert len(seen) == (50 if name == "simclr-ft" else 100) and min(seen) > 1 and max(seen) < 2


def test_the_critics_loss_moves_no_generator():
    method = small("clgan")
    method.critic.eval()
    made = [torch.randn(4, 3, 8, 8, requires_grad=True) for _ in range(2)]
    found = torch.autograd.grad(method.adversarial(images(count=2), made)[0], made)
    judged = -method.critic(torch.cat(made)).mean() + F.mse_loss(*made)
    torch.testing.assert_close(found, torch.autograd.grad(judged, made))


def test_swav_balances_its_codes_together_with_the_queue():
    method = small("swav")
    method.after_step(0.5)
    s = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    older = F.normalize(method.queue0.keys, dim=1) @ F.normalize(method.prototypes, dim=1).T
    torch.testing.assert_close(method.codes(s, method.queue0), sinkhorn(torch.cat([s, older]), epsilon=0.05)[:8])


def test_the_nearest_keys_come_most_similar_first():
    queue, z = Queue(6, 4), torch.randn(3, 4)
    for found, v in zip(queue.nearest(z, 5), z, strict=True):
        cosines = [F.cosine_similarity(v, key, dim=0).item() for key in queue.keys]
        order = sorted(range(6), key=lambda i: -cosines[i])[:5]
        assert torch.equal(found, queue.keys[order])
