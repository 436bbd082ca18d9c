"""The loop: killed runs go on bit for bit, several processes equal one, evaluation leaves no trace, errors teach."""

import dataclasses
import math
import os
import socket

import children
import numpy as np
import pytest
import synced
import torch
from torch import multiprocessing

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data.images import Images
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.evaluate.probes import knn_probe
from synpos_lib.train import encoders, pretrain
from synpos_lib.train.pretrain import Config, Processes

SMALL = {
    "simclr": {"hidden": 16, "out": 8},
    "mocov2": {"hidden": 16, "out": 8, "queue_size": 24},
    "swav": {"hidden": 16, "out": 8, "queue_size": 24, "prototypes": 6},
    "byol": {"hidden": 16, "out": 8},
    "supcon": {"hidden": 16, "out": 8},
    "barlow": {"hidden": 16, "out": 8},
}


@pytest.fixture(autouse=True)
def tiny_encoder(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "tiny", encoders.ENCODERS["tiny"])  # put back afterwards
    add_tiny_encoder()


def add_tiny_encoder():
    encoders.ENCODERS["tiny"] = lambda: encoders.small_encoder((8, 8, 16))


HERE = Processes(0, 1, torch.device("cpu"))


def some_images(n=24, seed=0):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 3, 16, 16), generator=draw, dtype=torch.uint8)
    labels = torch.randint(3, (n,), generator=draw)
    return Images(pixels, labels, None, ("a", "b", "c"), "noise", "train", f"noise-{seed}-{n}")


def some_positives(n=24, k=3):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, k, 3, 16, 16), dtype=np.uint8))


def config(method, **changes):
    base = next(name for name in SMALL if name in method)
    settings = {"encoder": "tiny", "epochs": 4, "batch": 8, "probe_every": 2, "save_every": 1, "learning_rate": 0.05}
    return Config(method=method, **{**settings, "hyperparameters": SMALL[base], **changes})


class Killed(Exception):
    pass


def kill_after(epoch):
    def on_epoch(rows):
        if rows[-1]["epoch"] == epoch:
            raise Killed

    return on_epoch


NAMES = ["simclr", "clsp-mocov2", "byol", "swav", "supcon", "simclr-aug", "mixdiff-simclr", "adainf-simclr"]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, name):
    images, positives, probe = some_images(), some_positives(), knn_probe(some_images(seed=1), some_images(seed=2))
    whole = pretrain.pretrain(tmp_path / "whole", config(name), images, positives, probe=probe)
    with pytest.raises(Killed):
        pretrain.pretrain(tmp_path / "cut", config(name), images, positives, probe=probe, on_epoch=kill_after(3))
    torch.randn(7)  # whatever happens in between
    cut = pretrain.pretrain(tmp_path / "cut", config(name), images, positives, probe=probe)
    for ours, theirs in zip(whole.metrics(), cut.metrics(), strict=True):
        assert {**ours, "images_per_second": 0} == {**theirs, "images_per_second": 0}
    ours, theirs = whole.final(), cut.final()
    assert ours["method"].keys() == theirs["method"].keys()
    for part in ("method", "optimizer", "random"):
        assert_same(ours[part], theirs[part])
    assert cut.results["knn"] == whole.results["knn"]


def assert_same(ours, theirs):
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        assert ours == theirs


def test_the_probe_leaves_no_trace(tmp_path):
    images, probe = some_images(), knn_probe(some_images(seed=1), some_images(seed=2))
    settings = config("simclr-ft", probe_every=1)  # whose loss draws random numbers, so that one drawn elsewhere shows
    with_probe = pretrain.pretrain(tmp_path / "a", settings, images, probe=probe)
    without = pretrain.pretrain(tmp_path / "b", settings, images)
    for part in ("method", "random"):
        assert_same(with_probe.final()[part], without.final()[part])
    assert {"knn", "std", "rank", "alignment", "uniformity"} <= set(with_probe.metrics()[0])


def test_a_finished_run_is_reused_and_gives_its_encoder(tmp_path, capsys):
    run = pretrain.pretrain(tmp_path / "run", config("mocov2"), some_images())
    again = pretrain.pretrain(tmp_path / "run", config("mocov2"), some_images())
    assert "reused" in capsys.readouterr().out and again.results == run.results
    encoder, final = pretrain.load_encoder(run), run.final()["method"]
    for name, value in encoder.network.state_dict().items():
        assert torch.equal(value, final[f"encoder.{name}"]), name
    assert encoder(some_images(seed=4).images).shape == (24, 16)


def test_the_untrained_encoder_is_the_one_that_a_run_started_from(tmp_path):
    run = pretrain.pretrain(tmp_path / "s", config("simclr", epochs=1, learning_rate=1e-30, seed=3), some_images())
    state = torch.get_rng_state()
    start = pretrain.untrained(run)
    assert torch.equal(state, torch.get_rng_state())
    end = pretrain.load_encoder(run)
    assert (start.width, start.mean, start.std) == (end.width, end.mean, end.std)
    for before, after in zip(start.network.parameters(), end.network.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-20)


@pytest.mark.parametrize("name", ["clsp-simclr", "simclr-aug", "clsp-mocov2"])
def test_lambda_zero_is_the_base_bit_for_bit_through_a_whole_training(tmp_path, name):
    images, positives = some_images(), some_positives()
    base = name.removeprefix("clsp-").removesuffix("-aug")
    settings = {**SMALL[base], "pull_weight": 0.0}
    ours = pretrain.pretrain(tmp_path / "base", config(base), images).final()["method"]
    zero = pretrain.pretrain(tmp_path / "zero", config(name, hyperparameters=settings), images, positives)
    state = zero.final()["method"]
    assert_same(ours, {key.removeprefix("base."): value for key, value in state.items()})


def test_candidates_are_drawn_anew_every_epoch(tmp_path):
    trainer = training("clsp-simclr", HERE)
    rows, first = trainer.order(runtime.generator(0, "epoch", 0))
    _, second = trainer.order(runtime.generator(0, "epoch", 1))
    assert rows.sort().values.equal(torch.arange(24)) and set(first.tolist()) == {0, 1, 2}
    assert not torch.equal(first, second)


# --------------------------------------------------------------------------------------- several processes


def training(name, here):
    settings = config(name)
    return pretrain.Training(settings, some_images(), some_positives(), here)


def one_step(trainer):
    rows, candidates = trainer.order(runtime.generator(0, "epoch", 0))
    loss, _ = trainer.step(rows[:8], candidates[:8], runtime.generator(0, "views"))
    trainer.method.after_step(0.1)
    gradients = {n: p.grad.clone() for n, p in trainer.method.named_parameters() if p.grad is not None}
    return {"loss": loss, "gradients": gradients, "state": trainer.method.state_dict()}


TOGETHER = ("clsp-simclr", "mocov2", "byol", "swav", "barlow", "supcon")


def worker(rank, port, folder):
    pretrain.synchronise_batchnorm = synced.synchronise_batchnorm
    torch.set_num_threads(1)
    runtime.fast_bf16 = lambda kind: False
    runtime.device = lambda: torch.device("cpu")  # one GPU cannot serve two processes
    add_tiny_encoder()
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    results = {name: one_step(training(name, pretrain.processes())) for name in TOGETHER}
    torch.save(results, folder / f"{rank}.pt")
    run = pretrain.pretrain(
        folder / "run", config("simclr"), some_images(), probe=knn_probe(some_images(), some_images(seed=2))
    )
    pretrain.pretrain(folder / "run", config("simclr"), some_images())  # done: both see that there is nothing to do
    assert (run is None) == (rank > 0)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, full_precision):
    """Loss, gradients, BatchNorm statistics and queues of two processes are those of one with the same batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(worker, (port, tmp_path), nprocs=2, start_method=children.METHOD)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = pretrain.pretrain(tmp_path / "one", config("simclr"), some_images()).metrics()
    run = read_run(tmp_path / "run")
    assert [row["loss"] for row in run.metrics()] == pytest.approx([row["loss"] for row in whole], rel=1e-3)
    assert "knn" in run.results
    for name in TOGETHER:
        one = one_step(training(name, HERE))
        for two in (results[name] for results in both):
            torch.testing.assert_close(two["loss"], one["loss"])
            assert two["gradients"].keys() == one["gradients"].keys()
            for key, gradient in one["gradients"].items():
                torch.testing.assert_close(two["gradients"][key], gradient, atol=1e-5, rtol=1e-3, msg=f"{name} {key}")
            for key, value in one["state"].items():
                if "queue" in key or key.startswith(("encoder", "base.encoder")):
                    torch.testing.assert_close(two["state"][key], value, atol=1e-5, rtol=1e-3, msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("name", "pair", "third"),
    [
        ("clsp-simclr", "real", "made"),
        ("mixdiff-simclr", "real", "made"),
        ("simclr-aug", "real", "real"),
        ("synthetic-simclr", "made", None),
        ("adainf-simclr", "either", None),
        ("supcon", "real", "labels"),
    ],
)
def test_every_role_is_given_the_images_of_its_own_anchors(name, pair, third):
    """Pixels say which image they are of: row r is r, its candidate c is 100 + 3 r + c."""
    pixels = torch.arange(24, dtype=torch.uint8)[:, None, None, None].expand(24, 3, 16, 16).contiguous()
    images = dataclasses.replace(some_images(), images=pixels)
    made = (100 + torch.arange(72, dtype=torch.uint8)).view(24, 3, 1, 1, 1).expand(24, 3, 3, 16, 16)
    trainer = pretrain.Training(config(name, views=("plain", "plain")), images, made, HERE)
    rows, candidates = torch.tensor([5, 0, 23, 7]), torch.tensor([2, 0, 1, -1 if pair == "either" else 1])
    views, *more = trainer.inputs(rows, candidates, torch.Generator().manual_seed(0))
    real, synthetic = rows.tolist(), (100 + 3 * rows + candidates).tolist()
    shown = {"real": real, "made": synthetic, "either": [*synthetic[:3], 7]}
    said = [
        (255 * (0.25 * x[:, 0, 0, 0] + 0.5)).round().long().tolist()
        for x in (*views, *(m for m in more if third in shown and m is not None))
    ]
    assert said == [shown[pair]] * 2 + ([shown[third]] if third in shown else [])
    if third == "labels":
        assert torch.equal(more[1], images.labels[rows])


def test_a_third_view_is_a_view_of_its_own():
    trainer = training("simclr-aug", HERE)
    views, third = trainer.inputs(torch.arange(8), torch.zeros(8, dtype=torch.long), torch.Generator().manual_seed(0))
    assert not any(torch.equal(third[i], view[i]) for view in views for i in range(8))


def test_rate_and_progress_follow_the_whole_training(tmp_path, monkeypatch):
    rates, progress = [], []
    step = pretrain.Training.step
    monkeypatch.setattr(
        pretrain.Training,
        "step",
        lambda self, *a: rates.append(self.optimizer.param_groups[0]["lr"]) or step(self, *a),
    )
    monkeypatch.setattr(
        "synpos_lib.methods.simclr.SimCLR.after_step", lambda self, p: progress.append(p), raising=False
    )
    pretrain.pretrain(tmp_path / "run", config("simclr", learning_rate=None, warmup=1), some_images())
    top = 0.5 * 8 / 1024  # the recipe's, in proportion to the batch
    cosine = [top * (1 + math.cos(math.pi * i / 9)) / 2 for i in range(9)]
    assert rates == pytest.approx([top * (0.002 + 0.998 * i / 3) for i in range(3)] + cosine)
    assert progress == pytest.approx([(i + 1) / 12 for i in range(12)])


def test_other_images_positives_or_code_make_another_run(tmp_path, monkeypatch, capsys):
    def run(images, positives):
        return pretrain.pretrain(tmp_path / "run", config("clsp-simclr", epochs=1), images, positives)

    run(some_images(), some_positives())
    run(some_images(), 255 - some_positives())
    assert "not reused, since positives was" in capsys.readouterr().out
    run(some_images(seed=1), 255 - some_positives())
    assert "not reused, since images was" in capsys.readouterr().out
    monkeypatch.setattr("synpos_lib.core.runs.code_fingerprint", lambda *names: " ".join(names))
    code = run(some_images(), some_positives()).config["code"]
    assert code == "synpos_lib.train.pretrain synpos_lib.methods.simclr synpos_lib.methods.clsp"


def test_another_value_in_a_recipe_makes_another_run_of_that_method_unless_the_configuration_sets_it(
    tmp_path, monkeypatch, capsys
):
    def run(name, **changes):
        return pretrain.pretrain(tmp_path / name, config(name, epochs=1, **changes), some_images())

    run("simclr"), run("byol"), run("swav", learning_rate=None)
    table = methods.load("table.METHODS")
    for name in ("byol", "swav"):
        monkeypatch.setitem(table, name, dataclasses.replace(table[name], learning_rate=0.7))
    monkeypatch.setitem(table, "another", table["simclr"])
    capsys.readouterr()
    run("simclr"), run("byol"), run("swav", learning_rate=None)
    words = capsys.readouterr().out
    assert words.count("reused, same") == 2 and "'swav': not reused, since recipe.learning_rate was" in words


def test_a_killed_run_ends_the_same_when_the_loss_itself_is_random(tmp_path):
    images = some_images()
    whole = pretrain.pretrain(tmp_path / "whole", config("simclr-ft"), images)
    with pytest.raises(Killed):
        pretrain.pretrain(tmp_path / "cut", config("simclr-ft"), images, on_epoch=kill_after(3))
    torch.randn(7)
    cut = pretrain.pretrain(tmp_path / "cut", config("simclr-ft"), images)
    for part in ("method", "optimizer", "random"):
        assert_same(whole.final()[part], cut.final()[part])


def test_the_probe_asks_the_second_set(tmp_path):
    images, ours, theirs = some_images(), some_images(seed=1), some_images(12, seed=2)
    run = pretrain.pretrain(tmp_path / "a", config("simclr", epochs=1), images, probe=knn_probe(ours, theirs))
    f = pretrain.load_encoder(run)
    assert run.results["knn"] == pytest.approx(
        knn_accuracy(f(ours.images), ours.labels, f(theirs.images), theirs.labels), abs=1e-4
    )


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "positives", "words"),
    [
        ({"method": "clsp-simclrr"}, None, "did you mean 'clsp-simclr'"),
        ({"method": "clsp-simclr"}, None, "needs positives: make them with notebook 05"),
        ({"method": "clsp-simclr"}, some_positives(20), "the positives are for 20 images"),
        ({"batch": 40}, None, "a batch of 40 is more than the 24 images"),
        ({"batch": 1}, None, "at least 2 images each"),
        ({"normalization": "cifar"}, None, "did you mean 'cifar10'"),
        ({"views": ("clsp_simclr", "symetric")}, None, "did you mean 'symmetric'"),
        ({"encoder": "resnet81"}, None, "did you mean 'resnet18'"),
        ({"hyperparameters": {"temprature": 1.0}}, None, "did you mean 'temperature'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(tmp_path, changes, positives, words):
    settings = dataclasses.replace(config("simclr"), **changes)
    with pytest.raises(Problem, match=words):
        pretrain.pretrain(tmp_path / "run", settings, some_images(), positives)


def test_missing_labels(tmp_path):
    unlabelled = dataclasses.replace(some_images(), labels=None)
    with pytest.raises(Problem, match="needs labels"):
        pretrain.pretrain(tmp_path / "run", config("supcon"), unlabelled)


def test_divergence_names_step_rate_and_checkpoint(tmp_path):
    with pytest.raises(Killed):
        pretrain.pretrain(tmp_path / "run", config("simclr"), some_images(), on_epoch=kill_after(3))
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    trainer_step = pretrain.Training.step
    try:
        pretrain.Training.step = lambda self, *a: (torch.tensor(float("nan")), {"nt_xent": torch.zeros(())})
        with pytest.raises(
            pretrain.Diverged,
            match="became nan at step 1 of epoch 3 .learning rate .*the last good checkpoint, epoch 2",
        ):
            pretrain.pretrain(tmp_path / "run", config("simclr"), some_images())
    finally:
        pretrain.Training.step = trainer_step
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    assert pretrain.pretrain(tmp_path / "run", config("simclr"), some_images()).done


def test_a_warning_of_the_probe_is_printed_and_kept(tmp_path, capsys):
    alike = dataclasses.replace(some_images(), images=torch.zeros(24, 3, 16, 16, dtype=torch.uint8))
    probe = knn_probe(alike, alike)
    run = pretrain.pretrain(tmp_path / "run", config("simclr", epochs=1), some_images(), probe=probe)
    assert "collapsed: all images have nearly the same features" in capsys.readouterr().out
    assert run.results["warning"].endswith("a lower learning rate or a longer warm-up is the usual cure")


def test_several_processes_without_a_card_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Problem, match="several processes need a GPU each"):
        pretrain.synchronise_batchnorm(torch.nn.BatchNorm1d(2))


def test_a_learning_rate_of_zero_is_zero():
    assert pretrain.resolved(config("simclr", learning_rate=0.0)).learning_rate == 0.0
