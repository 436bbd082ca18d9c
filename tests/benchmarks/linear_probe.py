"""The linear protocol: ours, from two cached feature sets, against encoding all images anew in every epoch.

Both run the same encoder in the same precision; the slow side is timed for a few epochs, since all of its 100 epochs
cost the same, and like the released code it evaluates the test images after each.

python tests/benchmarks/linear_probe.py [--encoder NAME] [--images N] [--epochs N]
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.data.views import NORMALIZATION
from synpos_lib.evaluate import linear
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen

EPOCHS, CLASSES = 100, 10


def slow_epoch(encoder: Frozen, layer: nn.Linear, optimizer, images, labels, test, test_labels) -> None:
    """One epoch as it is usually written: flip, encode, step; then encode and score the test images."""
    for rows in torch.randperm(len(images)).split(256):
        x = images[rows]
        x = torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x.flip(3), x)
        loss = F.cross_entropy(layer(encoder(x)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        linear.accuracy(layer(encoder(test)), test_labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--images", type=int, default=2560, help="training images; a fifth as many for the test")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the slow side that are timed")
    options = parser.parse_args()
    threads = runtime.use_threads()
    network, width = encoders.by_name(options.encoder)
    network.to(runtime.device(), memory_format=torch.channels_last)
    encoder = Frozen(network, width, *NORMALIZATION["cifar10"])
    n = options.images
    images = torch.randint(0, 256, (n + n // 5, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (len(images),))
    data = (images[:n], labels[:n], images[n:], labels[n:])
    layer = nn.Linear(width, CLASSES)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    encoder(images[:500])  # warm

    start = time.perf_counter()
    weight, bias = linear.fit(encoder(data[0]), encoder(data[0], flip=True), data[1])
    linear.accuracy(encoder(data[2]) @ weight.T + bias, data[3])
    ours = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(options.epochs):
        slow_epoch(encoder, layer, optimizer, *data)
    slow = (time.perf_counter() - start) / options.epochs * EPOCHS
    print(f"{runtime.hardware()}, {threads} threads; {options.encoder}, {n} images")
    print(f"ours {ours:.1f} s, every epoch anew {slow:.1f} s ({options.epochs} of {EPOCHS} epochs timed)")
    print(json.dumps({"slow": round(slow / ours, 1)}))


if __name__ == "__main__":
    main()
