"""On a card, no step of a training waits for it: tried on a pretend card, so that it is known without one."""

import copy
import dataclasses
from unittest import mock

import pytest
import torch
from pretend_card import CUDA, PretendCard, on_a_pretend_card
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from synpos_lib.core import runtime
from synpos_lib.core.processes import Processes
from synpos_lib.data.images import Images
from synpos_lib.diffusion import training
from synpos_lib.diffusion.sampling import sample
from synpos_lib.diffusion.unet import PAPER, UNet
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.methods.table import METHODS
from synpos_lib.train import pretrain

HERE = Processes(0, 1, CUDA)
BASES = [name for name, recipe in METHODS.items() if recipe.role == "none"]
ROLES = ["clsp-simclr", "simclr-aug", "mixdiff-simclr", "synthetic-simclr", "adainf-simclr"]


def some_images(n=32):
    pixels = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
    return Images(pixels, torch.arange(n) % 4, None, tuple("abcd"), "noise", "train", "noise")


def some_positives(n=32, k=2):
    return torch.randint(0, 256, (n, k, 3, 32, 32), dtype=torch.uint8)


def narrow(network, **changes):
    return dataclasses.replace(network, channels=(32, 32), **changes)


@on_a_pretend_card
def test_the_pretend_card_notices_what_a_card_would():
    with PretendCard() as card:
        there = torch.rand(4, 3, device=CUDA)
        torch.rand(4, 3).to(CUDA, non_blocking=True)
        assert card.waits == []
        torch.rand(4, 3).to(CUDA)
        there.cpu()
        assert len(card.waits) == 2
        with pytest.raises(RuntimeError, match="device"):
            there @ torch.rand(3, 4)
        for number in (there.sum().item, there.nonzero, lambda: bool((there > 0).all())):
            with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
                number()


@pytest.mark.parametrize(
    ("name", "fits"), [(name, True) for name in (*BASES, *ROLES)] + [(name, False) for name in ("supcon", *ROLES)]
)
@on_a_pretend_card
def test_no_step_of_pretraining_waits(name, fits, monkeypatch):
    plain = torch.optim.SGD  # the fused kernel of a card has none for tensors without memory
    monkeypatch.setattr(torch.optim, "SGD", lambda *weights, fused, **settings: plain(*weights, **settings))
    config = pretrain.Config(method=name, encoder="tiny", batch=8, epochs=2)
    with PretendCard() as card, mock.patch.object(runtime, "fits", lambda size, where: fits):
        trainer = pretrain.Training(config, some_images(), some_positives(), HERE)
        assert next(trainer.method.parameters()).device == CUDA
        assert trainer.images.device.type == ("cuda" if fits else "cpu")
        draw = torch.Generator().manual_seed(0)
        rows, candidates = (part.to(trainer.images.device) for part in trainer.order(draw))
        for step in range(2):
            before = len(card.waits)  # the first step moves what stays there
            trainer.step(rows[:8], candidates[:8], draw)
            trainer.method.after_step((step + 1) / 8)
        assert card.waits[before:] == []


@pytest.mark.parametrize("name", ["embedded", "paper", "conditional"])
@on_a_pretend_card
def test_no_step_of_the_diffusion_training_waits(name):
    config = {
        "embedded": training.TrainingConfig(),
        "paper": dataclasses.replace(training.PAPER_TRAINING, batch=4, unet=narrow(PAPER)),
        "conditional": dataclasses.replace(training.PAPER_CONDITIONAL, batch=4, unet=narrow(PAPER, classes=10)),
    }[name]
    labels = torch.arange(32) % 10 if config.unet.classes else None
    with PretendCard() as card:
        unet = UNet(config.unet).to(CUDA)
        ema = copy.deepcopy(unet).requires_grad_(False)
        optimizer = training.make_optimizer(unet, config)
        images, labels = some_images().images.to(CUDA), None if labels is None else labels.to(CUDA)
        for step in range(2):
            before = len(card.waits)
            batch = training.draw(images, step, config, labels).part(HERE.rank, HERE.count).to(HERE.device)
            training.train_step(unet, ema, optimizer, batch, step, config, HERE)
        assert card.waits[before:] == []
        for sampler in ("ddim", "dpm++", "ddpm"):
            made = sample(
                ema, anchors=torch.zeros(2, 3, 32, 32, device=CUDA), sampler=sampler, steps=2, anchor_time=0.5
            )
            assert made.device == CUDA and made.shape == (2, 3, 32, 32)


@on_a_pretend_card
def test_the_last_questions_are_answered_on_the_card():
    labels, rows = torch.arange(40) % 4, slice(0, 20)
    with PretendCard():
        z = torch.rand(40, 8, device=CUDA)
        weight, bias = linear.sgd(z[rows], z[rows], labels[rows], epochs=2, batch=8)
        assert weight.device == bias.device == CUDA
        with pytest.raises(DataDependentOutputException):  # at its end, where the hits are counted
            knn_accuracy(z[rows], labels[rows], z, labels)


@pytest.mark.parametrize(("spare", "where"), [(-1, "cpu"), (0, "cuda")])
@on_a_pretend_card
def test_images_and_positives_go_to_the_card_together_or_not_at_all(spare, where):
    images, positives = some_images(), some_positives()
    free = int((images.images.nbytes + positives.nbytes) / runtime.DATA_SHARE) + spare
    config = pretrain.Config(method="clsp-simclr", encoder="tiny", batch=8, epochs=2)
    with PretendCard(), mock.patch.object(torch.cuda, "mem_get_info", lambda where: (free, free)):
        trainer = pretrain.Training(config, images, positives, HERE)
        assert trainer.images.device.type == trainer.positives.device.type == where


@on_a_pretend_card
def test_features_that_do_not_fit_are_asked_in_main_memory():
    images = some_images()
    with PretendCard(), mock.patch.object(torch.cuda, "mem_get_info", lambda where: (1000, 1000)):
        rows = linear_and_knn(lambda images, flip=False: images[:, :, 0, 0].float(), images, images)
    assert [row["metric"] for row in rows] == ["linear", "kNN"] and all(0 <= row["value"] <= 1 for row in rows)


def test_images_that_do_not_fit_stay_in_main_memory_and_say_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (80 * 10**9, 80 * 10**9))
    assert runtime.fits(40 * 10**9, CUDA) and not runtime.fits(41 * 10**9, CUDA)
    assert "41.0 GB stay in main memory: 80.0 GB are free on the GPU" in capsys.readouterr().out
    assert not runtime.fits(1, torch.device("cpu"))


def test_only_long_trainings_on_a_gpu_are_compiled():
    assert runtime.compile_pays(runtime.COMPILE_FROM, CUDA) and not runtime.compile_pays(100, CUDA)
    assert not runtime.compile_pays(10**6, torch.device("cpu"))
