"""What is said of a method before it is trained."""

import math

import torch

from synpos_lib.evaluate.at_start import at_start


def test_it_says_what_a_method_consists_of():
    draw = torch.Generator().manual_seed(0)
    pair, labels = [torch.randn(8, 3, 32, 32, generator=draw) for _ in range(2)], torch.arange(8)
    simclr, moco, supcon = (at_start(name, pair, labels) for name in ("simclr", "mocov2", "supcon"))
    assert (simclr["slow copy"], simclr["queue"], simclr["labels"]) == (False, 0, False)
    assert (moco["slow copy"], moco["queue"]) == (True, 2 * 32768) and supcon["labels"]
    assert simclr["weights, millions"] == (129 * 4096 + 4097 * 256) / 1e6
    assert abs(simclr["loss"] - supcon["loss"]) < 1e-4, "all labels differ: SupCon is SimCLR"
    assert abs(simclr["loss"] - math.log(15)) < 1, "noise views: near the loss of guessing"
    assert at_start("simclr-ft", pair, labels) == at_start("simclr-ft", pair, labels), "draws alike each time"
