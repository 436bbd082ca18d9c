"""Seconds per SimCLR step with ResNet-18, from uint8 images to the optimiser step: ours, the official way, lightly's.

All three train the same encoder (3×3 stem) on the same images with the same batch. "official" is the released CLSP
recipe: PIL transforms per image in a DataLoader, float32, both views concatenated, head 512-4096-256. "lightly" is its
PyTorch example with its transform, collation, head and loss, and this encoder instead of the ImageNet stem.

python tests/benchmarks/ssl_step.py [--batch N] [--steps N] [--rounds N]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from synpos_lib.core import runtime
from synpos_lib.data.images import Images
from synpos_lib.data.views import NORMALIZATION
from synpos_lib.methods.simclr import nt_xent
from synpos_lib.train import encoders, pretrain

Step = Callable[[], object]


class Pictures(Dataset):
    """PIL images and a transform, as torchvision's CIFAR10 gives them."""

    def __init__(self, images: torch.Tensor, transform: Callable):
        self.pictures = [to_pil_image(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> object:
        return self.transform(self.pictures[i])


def loader(images: torch.Tensor, transform: Callable, batch: int) -> DataLoader:
    workers = len(os.sched_getaffinity(0))
    pictures = Pictures(images, transform)
    order = RandomSampler(pictures, replacement=True, num_samples=10**9)  # no end: workers are started once a round
    return DataLoader(pictures, batch, sampler=order, drop_last=True, num_workers=workers)


def peer(batches: DataLoader, network: nn.Module, loss: Callable, lr: float) -> Iterator[Step]:
    """A step of the usual form: two lists of views in, one optimiser step out; workers live for one round."""
    where = runtime.device()
    network.to(where).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)

    while True:
        views = iter(batches)

        def step(views=views) -> None:
            z0, z1 = network(torch.cat(next(views)[:2]).to(where)).chunk(2)
            value = loss(z0, z1)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            value.item()

        yield step
        del views, step  # its workers end


def official(images: torch.Tensor, batch: int, encoder: str = "resnet18") -> Iterator[Step]:
    one = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.08, 1.0)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomHorizontalFlip(),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALIZATION["cifar10"]),
        ]
    )
    backbone, width = encoders.by_name(encoder)
    network = nn.Sequential(backbone, nn.Linear(width, 4096), nn.ReLU(), nn.Linear(4096, 256))
    batches = loader(images, lambda picture: (one(picture), one(picture)), batch)
    return peer(batches, network, lambda z0, z1: nt_xent(z0, z1, temperature=0.2), lr=0.125)


def lightly(images: torch.Tensor, batch: int) -> Iterator[Step]:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    encoder, width = encoders.by_name("resnet18")
    network = nn.Sequential(encoder, SimCLRProjectionHead(width, 512, 128))
    batches = loader(images, SimCLRTransform(input_size=32, gaussian_blur=0.0), batch)
    return peer(batches, network, NTXentLoss(), lr=0.06)


def ours(images: torch.Tensor, batch: int, encoder: str = "resnet18", compiled: bool = False) -> tuple[Step, Step]:
    """A step, and only its augmentation; as within an epoch, nobody waits for the loss."""
    config = pretrain.Config(method="simclr", encoder=encoder, batch=batch, normalization="cifar10")
    data = Images(images, None, None, (), "noise", "train", "noise")
    training = pretrain.Training(config, data, None, pretrain.processes())
    training.method.train()
    if compiled:
        training.method.encoder.compile()
    draw = torch.Generator().manual_seed(0)

    def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
        chosen = torch.randperm(len(images), generator=draw)[:batch], torch.zeros(batch, dtype=torch.long)
        return *(part.to(training.images.device, non_blocking=True) for part in chosen), draw

    def step() -> None:
        training.step(*rows())
        training.method.after_step(0.5)

    return step, lambda: training.inputs(*rows())


def seconds(step: Step, steps: int) -> list[float]:
    step()  # starts workers, fills caches
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3, help="timed steps per side and round")
    parser.add_argument("--rounds", type=int, default=3, help="the sides take turns this often")
    options = parser.parse_args()
    threads = runtime.use_threads()
    images = torch.randint(0, 256, (8 * options.batch, 3, 32, 32), dtype=torch.uint8)
    step, augment = ours(images, options.batch)
    peers = {"official": official(images, options.batch), "lightly": lightly(images, options.batch)}
    times: dict[str, list[float]] = {"ours": [], "augmentation": [], **{name: [] for name in peers}}
    for _ in range(options.rounds):
        times["ours"] += seconds(step, options.steps)
        times["augmentation"] += seconds(augment, options.steps)
        for name, side in peers.items():
            times[name] += seconds(next(side), options.steps)
    median = {name: statistics.median(values) for name, values in times.items()}
    kind = runtime.device().type
    precision = "bfloat16 autocast" if runtime.fast_bf16(kind) else "float32"
    print(f"{runtime.hardware()}, {threads} threads; ours in {precision}, the others in float32; batch {options.batch}")
    for name, value in median.items():
        print(f"{name:>12}: {1000 * value:8.0f} ms (median of {len(times[name])})")
    ratios = {name: round(median[name] / median["ours"], 2) for name in peers}
    print(json.dumps({**ratios, "augmentation_share": round(median["augmentation"] / median["ours"], 3)}))


if __name__ == "__main__":
    main()
