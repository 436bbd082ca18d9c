"""How good, how varied and how new are generated images: distances between two sets in a feature space.

Every function takes features (N, D) of a named encoder; a number without its encoder means nothing. Only `fid` takes
images, since its encoder is always the same.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem

CHUNK = 2**24  # distances held at once by `nearest`: 64 MB


def kid(real: torch.Tensor, made: torch.Tensor, *, subsets: int = 50, size: int = 500, seed: int = 0):
    """Kernel inception distance: unbiased MMD² with k(a, b) = (a·b / D + 1)³, mean and std over random subsets.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401
    """
    size = min(size, len(real), len(made))
    draw = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x = real[torch.randperm(len(real), generator=draw)[:size]].double()
        y = made[torch.randperm(len(made), generator=draw)[:size]].double()
        k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731 (the formula, named as in the paper)
        within = sum((k(a, a).sum() - k(a, a).trace()) / (size * (size - 1)) for a in (x, y))
        values.append(within - 2 * k(x, y).mean())
    values = torch.stack(values)
    return values.mean().item(), values.std(correction=0).item()


def precision_recall(real: torch.Tensor, made: torch.Tensor, *, k: int = 3) -> tuple[float, float]:
    """Share of made images inside the real manifold, and of real ones inside the made manifold.

    A manifold is the union of balls that reach each point's k-th neighbour.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991
    """

    def inside(points: torch.Tensor, manifold: torch.Tensor) -> float:
        radius = torch.cdist(manifold, manifold).kthvalue(k + 1, dim=1).values  # (M,), itself is the first
        return (torch.cdist(points, manifold) <= radius).any(1).double().mean().item()

    return inside(made, real), inside(real, made)


def frechet(real: torch.Tensor, made: torch.Tensor) -> float:
    """Fréchet distance |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½): FID when the encoder is Inception."""
    x, y = real.double(), made.double()
    a, b = torch.cov(x.T), torch.cov(y.T)
    root = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()  # tr (Σ₁Σ₂)^½
    return ((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root).item()


def fid(real_images: torch.Tensor, made_images: torch.Tensor, weights: Path, *, batch: int = 64) -> float:
    """FID of uint8 images (N, 3, H, W): the Fréchet distance in the features of the FID paper's Inception network.

    `weights` is the file `pt_inception-2015-12-05-6726825d.pth` of https://github.com/mseitzer/pytorch-fid/releases;
    nothing is downloaded. Published numbers take all training images and 50,000 made ones: with fewer it is larger.
    Heusel et al. 2017, https://arxiv.org/abs/1706.08500
    """
    if not Path(weights).is_file():
        raise Problem(f"FID needs Inception's weights in {weights}, and there is no such file: use `kid` and the judge")
    net, where = fid_network(), runtime.device()
    try:
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises nearly anything on a file that is not its own
        raise Problem(f"{weights} does not hold the weights of the FID network: use `kid` and the judge") from error
    net.fc = torch.nn.Identity()
    net.to(where).eval()

    @torch.inference_mode()
    def features(images):
        found = []
        for part in images.split(batch):
            part = F.interpolate(part.to(where) / 255, size=(299, 299), mode="bilinear", align_corners=False)
            found.append(net(2 * part - 1).cpu())
        return torch.cat(found)

    return frechet(features(real_images), features(made_images))


def fid_network() -> torch.nn.Module:
    """torchvision's Inception with the two quirks of the TensorFlow network that FID is defined by."""
    from torchvision.models import inception_v3

    net = inception_v3(weights=None, init_weights=False, num_classes=1008, aux_logits=False)

    def mean_without_border(module, inputs):  # the mean of 3 × 3 pixels counts only those inside the picture
        inside = F.avg_pool2d(torch.ones_like(inputs[0][:1, :1]), 3, 1, 1)
        return inputs[0] / inside

    for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"):
        getattr(net, f"Mixed_{name}").branch_pool.register_forward_pre_hook(mean_without_border)
    last = net.Mixed_7c  # takes the largest of 3 × 3 pixels, not their mean
    last.register_forward_pre_hook(lambda module, inputs: setattr(module, "seen", inputs[0]))
    last.branch_pool.register_forward_pre_hook(lambda module, inputs: (F.max_pool2d(last.seen, 3, 1, 1),))
    return net


def nearest(made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each made image, the distance to its nearest real one and which one that is (is it copying?)."""
    real = real.float()
    parts = made.float().split(max(1, CHUNK // len(real)))
    distance, index = zip(*(torch.cdist(part, real).min(1) for part in parts), strict=True)
    return torch.cat(distance), torch.cat(index)


def near_duplicates(made: torch.Tensor, real: torch.Tensor, held_out: torch.Tensor) -> float:
    """Share of made images closer to a training image than 99 % of held-out real images are: chance is 1 %."""
    usual = nearest(held_out, real)[0].quantile(0.01)
    return (nearest(made, real)[0] < usual).double().mean().item()


def diversity(candidates: torch.Tensor) -> torch.Tensor:
    """Mean distance among the K candidates of each anchor: (N, K, D) -> (N,)."""
    n, k, _ = candidates.shape
    return torch.cdist(candidates.float(), candidates.float()).sum((1, 2)) / (k * (k - 1))
