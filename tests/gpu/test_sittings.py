"""Every sitting, rehearsed without a card: it ends with its clock, brings little home, and says in one sentence no."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import bench  # noqa: E402 (beside this file)
import cifar_diffusion  # noqa: E402
import cifar_ssl  # noqa: E402
import embedded  # noqa: E402
import packed  # noqa: E402
import record  # noqa: E402
import results  # noqa: E402
import sitting  # noqa: E402
from clock import Clock, looks  # noqa: E402
from nearly import same_numbers  # noqa: E402

sys.path.append(str(HERE.parent / "diffusion"))
import tiny  # noqa: E402

from synpos_lib.core import files  # noqa: E402
from synpos_lib.core.errors import Problem  # noqa: E402
from synpos_lib.data import catalog  # noqa: E402
from synpos_lib.data.images import Images  # noqa: E402
from synpos_lib.diffusion.unet import UNet, UNetConfig  # noqa: E402
from synpos_lib.lab import recorded  # noqa: E402

command = {"__name__": "command", "__file__": str(HERE / "__main__.py")}
exec(compile((HERE / "__main__.py").read_text(), "__main__.py", "exec"), command)
main = command["main"]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A data root with something like CIFAR-10 as an image folder: ten classes, 40 and 12 images each."""
    from PIL import Image

    root, draw = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for (part, count), label in itertools.product((("train", 40), ("test", 12)), range(10)):
        folder = root / "cifar10" / part / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            pixels[8:24, 8:24] = 25 * label  # what makes a class
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def parts(photographs, tmp_path_factory):
    """The same in four files."""
    out = tmp_path_factory.mktemp("parts")
    packed.pack("cifar10", photographs, out)
    return out


@pytest.fixture(scope="session")
def home(parts, tmp_path_factory):
    """What three rehearsed sittings brought home; the last makes its positives with the weights of the one before."""
    folder = tmp_path_factory.mktemp("home")
    first = ["--rehearse", "--minutes", "3"]
    assert main(["embedded", *first, "--out", str(folder / "embedded")]) == 0
    data = [*first, "--data", str(parts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "run", lambda *args: None)  # it was tried at the head of the first
        assert main(["cifar-diffusion", *data, "--out", str(folder / "cifar-diffusion")]) == 0
        weights = ["--weights", str(folder / "cifar-diffusion")]
        assert main(["cifar-ssl", *data, *weights, "--out", str(folder / "cifar-ssl")]) == 0
    return folder


def rows(folder, table):
    frame = pd.read_csv(folder / "results.csv", dtype={"t": str})
    return frame[frame.table == table].dropna(axis=1, how="all")


# ------------------------------------------------------------------------------------------------ sittings


@pytest.mark.parametrize("name", ["embedded", "cifar-diffusion", "cifar-ssl"])
def test_what_comes_home_is_whole_and_small(home, name):
    about = results.read(home / name)
    assert about["finished"] and about["sitting"] == name and about["provenance"]["versions"]["torch"]
    found = list((home / name).iterdir())
    assert len(found) <= results.FILES and sum(path.stat().st_size for path in found) <= results.ALL_LIMIT
    assert all(path.stat().st_size <= results.FILE_LIMIT for path in found)
    assert {path.name for path in found} == {"sitting.json", *about["files"]}


def test_a_sitting_begins_with_the_bench(home):
    steps, card = rows(home / "embedded", "simclr step"), rows(home / "embedded", "card").set_index("measure").value
    assert set(steps.way) == {"ours", "the released way"} and (steps.value > 0).all()
    assert len(card) == 3 and card.filter(like="difference").max() == 0  # the processor against itself


def test_embedded_asks_every_variant_alike(home):
    about = results.read(home / "embedded")
    assert list(about["recipes"]) == list(embedded.VARIANTS)
    kept = rows(home / "embedded", "kept")
    first = kept[(kept.w == 0.1) & (kept.anchor_time == 1.0)].groupby("variant").factor.agg(set)
    assert len(first) == 4 and all(factors == {"what", "where"} for factors in first)
    assert ((kept.low <= kept.value) & (kept.value <= kept.high)).all()
    probes = rows(home / "embedded", "probes")
    assert {"mid", "in", "up.0.0"} <= set(probes.block) and set(probes.measure) == {"linear", "knn"}
    training = rows(home / "embedded", "training").pivot(index="variant", columns="measure", values="value")
    assert (training["images seen"] > 0).all() and (training["images per second"] > 0).all()
    recipes = about["recipes"]
    assert recipes["finest skips"]["unet"]["skips"] == [0] and recipes["all skips"]["unet"]["skips"] is None
    weights, recipe = results.read_weights(home / "embedded", "all skips")
    UNet(UNetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe["unet"].items()})).load_state_dict(
        weights
    )


def test_a_later_sitting_goes_on_from_the_weights_of_an_earlier_one(home, parts, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(cifar_diffusion, "train", lambda *args, **more: begun.append((*args, more)) or 1 / 0)
    words = ["--rehearse", "--minutes", "3", "--data", str(parts), "--weights", str(home / "cifar-diffusion")]
    with pytest.raises(ZeroDivisionError):
        main(["cifar-diffusion", *words, "--out", str(tmp_path / "out")])
    weights, recipe = results.read_weights(home / "cifar-diffusion", "cifar10")
    *_, config, start, more = begun[0]
    assert all(torch.equal(start[name], value) for name, value in weights.items())
    training = rows(tmp_path / "out", "training")
    assert training.value.tolist() == [recipe["images_seen"]] == [more["images_before"]]
    first = sitting.training.TrainingConfig(unet=config.unet, seed=0)
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    x, other = (sitting.training.draw(images, 0, settings).x0 for settings in (config, first))
    assert not torch.equal(x[:8], other[:8]), "not the batches of the sitting before"
    about = results.read(tmp_path / "out")  # what was there is saved all the same
    assert not about["finished"] and about["seconds"] > 0


def test_the_arms_of_a_sitting_have_equal_epochs_and_are_asked_on_their_way(home):
    training = rows(home / "cifar-ssl", "training")
    epochs = training[training.measure == "epochs"].set_index("arm").value
    assert set(epochs.index) == {"simclr", "simclr-aug", "clsp-simclr"} and epochs.nunique() == 1
    curve, final = rows(home / "cifar-ssl", "curve"), rows(home / "cifar-ssl", "accuracy")
    assert set(curve[curve.arm == "simclr"].measure) == {"loss", "knn", "linear", "rank"}
    assert "pull" in set(curve[curve.arm == "clsp-simclr"].measure)
    assert len(final) == 8 and set(final.measure) == {"linear", "kNN"}
    assert set(final.arm) == {"untrained", *epochs.index} and (final[final.arm == "untrained"].epoch == 0).all()
    positives = rows(home / "cifar-ssl", "positives").set_index("measure").value
    assert positives["candidates of each anchor"] in (1, 2)


def test_a_recording_can_be_read_like_any_other(home, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    with pytest.raises(Problem, match="is a rehearsal, whose numbers mean nothing"):
        record.record(home / "embedded", "card")
    for name in ("embedded", "cifar-ssl"):  # as if a card had measured it
        shutil.copytree(home / name, tmp_path / "home" / name)
        about = files.read_json(home / name / "sitting.json", dict) | {"rehearse": "False"}
        files.write_json(tmp_path / "home" / name / "sitting.json", about)
    home = tmp_path / "home"
    assert main(["record", str(home / "embedded"), "--as", "card"]) == 0
    assert "(figures/gpu_embedded.sheet.png)" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    frame = recorded.load("gpu_embedded.kept")
    assert len(frame) == len(rows(home / "embedded", "kept")) and not frame.changed.any()
    manifest = json.loads((tmp_path / "card" / "manifest.json").read_text())
    assert manifest["finished"] and manifest["command"] == "python tests/gpu embedded"
    assert (tmp_path / "card" / "figures" / "gpu_embedded.sheet.png").exists()
    assert main(["record", str(home / "embedded"), "--as", "card"]) == 0  # anew
    with pytest.raises(Problem, match="keeps what `python tests/gpu embedded` has made"):
        record.record(home / "cifar-ssl", "card")
    monkeypatch.setattr(recorded, "sources_code", lambda sources: "another")
    assert recorded.load("gpu_embedded.kept").changed.all()


# --------------------------------------------------------------------------------------------------- clock


def test_a_clock_and_its_parts():
    now = [100.0]
    clock = Clock(60, lambda: now[0])
    half, minute = clock.part(0.5), clock.every(20)
    now[0] += 15
    assert (clock.left(), clock.gone(), half.left(), half.gone()) == (45, 0.25, 15, 0.5) and not minute()
    now[0] += 5
    assert minute() and not minute()
    now[0] += 100
    assert clock.left() == half.left() == 0 and clock.gone() == 1 and clock.part(0.5).gone() == 1
    assert [looks()() for _ in range(2)] == [0, 0]  # each has its own count


@pytest.mark.parametrize("minutes", [3, 6, 12])
def test_a_sitting_ends_in_time_on_a_pretend_card(minutes, tmp_path, monkeypatch):
    """Each thing takes on a pretend clock what it may take on a card; nothing is computed."""
    now, trained = [0.0], {}

    def takes(seconds, value=None):
        def done(*args, **settings):
            now[0] += seconds
            return value(*args, **settings) if callable(value) else value

        return done

    class Judge:
        accuracy = {"what": 1.0, "where": 1.0}

        def __call__(self, images):
            return {"features": torch.rand(len(images), 4)}

        def agreement(self, images, anchors):
            return [{"kept": factor, "value": 0.5, "n": len(images)} for factor in ("what", "where")]

    def train_step(unet, ema, optimizer, batch, step, config, here, *, progress, errors):
        now[0] += 0.25
        key = json.dumps(sitting.dataclasses.asdict(config))
        trained.setdefault(key, []).append((now[0], progress))
        return torch.ones(len(batch.x0))

    blank = takes(2.0, lambda self, anchors, k, seed: torch.zeros(len(anchors), k, 3, 32, 32, dtype=torch.uint8))
    probed = pd.DataFrame([{"block": "mid", "t": 50, "linear what": 0.5}])
    monkeypatch.setattr(sitting.training, "train_step", train_step)
    monkeypatch.setattr(sitting.BottleneckMixing, "generate", blank)
    monkeypatch.setattr(sitting, "draw_freely", takes(3, lambda unet, n, seed: torch.zeros(n, 3, 32, 32).byte()))
    monkeypatch.setattr(sitting.probes, "probe_blocks", takes(4, lambda *args, **settings: probed))
    monkeypatch.setattr(embedded, "train_judge", takes(15, lambda *args, **settings: Judge()))
    out = results.Results(tmp_path / "out", "embedded")
    clock = Clock(60 * minutes, lambda: now[0])
    clock.part(1 / 8)
    now[0] += 60 * minutes / 8  # the bench
    desk = sitting.Sitting(clock, out, tmp_path, None, None, 0, True)
    embedded.run(desk, *embedded.prepare(desk))
    assert now[0] <= 60 * minutes + 5
    spans = [steps[-1][0] - steps[0][0] for steps in trained.values()]
    assert len(spans) == 4 and max(spans) - min(spans) < 0.1 * max(spans)
    assert all(steps[-1][1] > 0.97 for steps in trained.values())  # the rate came down
    kept = rows(tmp_path / "out", "kept")
    counts = kept.groupby("variant").size()
    assert len(counts) == 4 and counts.min() >= 4  # what and where, at s = t and at half of it


@pytest.mark.parametrize(("minutes", "slower"), [(6, 1), (6, 3), (12, 1)])
def test_a_continued_diffusion_model_ends_in_time_on_a_pretend_card(minutes, slower, parts, tmp_path, monkeypatch):
    now, steps = [0.0], []

    def takes(seconds, value=None):
        def done(*args, **settings):
            now[0] += slower * seconds
            return value(*args, **settings) if callable(value) else value

        return done

    class Judge:
        accuracy = {"what": 0.9}

        def __call__(self, images):
            return {"features": torch.rand(len(images), 4)}

        def agreement(self, images, anchors):
            return [{"kept": "what", "value": 0.5, "n": len(images)}]

    def train_step(unet, ema, optimizer, batch, step, config, here, *, progress, errors):
        now[0] += slower * 0.07
        steps.append(progress)
        return torch.ones(len(batch.x0))

    blank = takes(5.0, lambda self, anchors, k, seed: torch.zeros(len(anchors), k, 3, 32, 32, dtype=torch.uint8))
    monkeypatch.setattr(sitting.training, "train_step", train_step)
    monkeypatch.setattr(sitting.BottleneckMixing, "generate", blank)
    monkeypatch.setattr(sitting, "draw_freely", takes(3, lambda unet, n, seed: torch.zeros(n, 3, 32, 32).byte()))
    probed = pd.DataFrame([{"block": "mid", "t": 50, "linear what": 0.5}])
    monkeypatch.setattr(sitting.probes, "probe_blocks", takes(8, lambda *args, **settings: probed))
    monkeypatch.setattr(cifar_diffusion, "train_judge", takes(20, lambda *args, **settings: Judge()))
    out = results.Results(tmp_path / "out", "cifar-diffusion")
    desk = sitting.Sitting(Clock(60 * minutes, lambda: now[0]), out, tmp_path, parts, None, 0, True)
    ready = cifar_diffusion.prepare(desk)
    now[0] += 10 + 60 * minutes / 8  # reading, the bench
    cifar_diffusion.run(desk, *ready)
    assert now[0] <= 60 * minutes + main.__globals__["GRACE"]
    assert steps[-1] > 0.98 and sum(row["table"] == "kept" for row in out.rows) >= 2


@pytest.mark.parametrize(
    ("minutes", "slower", "steps"), [(6, 1, 10), (6, 3, 5), (6, 8, 2), (12, 1, 10), (3, 1, 5), (3, 8, 2)]
)
def test_three_arms_end_in_time_on_a_pretend_card(minutes, slower, steps, tmp_path, monkeypatch):
    now, trained = [0.0], []

    class Mixing:
        def __init__(self, unet, *, w, steps, anchor_time):
            self.steps = steps

        def generate(self, anchors, k, seed):
            now[0] += slower * 1e-4 * len(anchors) * self.steps  # 50 s for a candidate of 50,000 anchors in 10 steps
            return torch.zeros(len(anchors), k, 3, 2, 2, dtype=torch.uint8)

    def pretrain(folder, config, images, positives=None, *, probe=None, on_epoch=None):
        rows, speed = [], {"simclr": 22_000}.get(config.method, 15_000) / slower
        for epoch in range(config.epochs):
            now[0] += len(images) / speed * 1.05  # a little slower than in the trial
            row = {"epoch": epoch + 1, "loss": 1.0, "images_per_second": speed}
            if probe and ((epoch + 1) % config.probe_every == 0 or epoch + 1 == config.epochs):
                row |= probe(None)
            rows.append(row)
            if on_epoch:
                on_epoch(rows)
        if on_epoch:
            trained.append((config.method, config.epochs))
        now[0] += 1
        return SimpleNamespace(metrics=lambda: rows, results={"seconds": 1.0})

    def probe(encoder):
        now[0] += 2
        return {"knn": 0.5, "linear": 0.5, "rank": 3.0}

    def last(encoder, learned, test, seed):
        now[0] += 12
        return [{"metric": "kNN", "value": 0.5, "n": len(test)}]

    monkeypatch.setattr(cifar_ssl, "BottleneckMixing", Mixing)
    monkeypatch.setattr(cifar_ssl.pretrain, "pretrain", pretrain)
    for name in ("untrained", "load_encoder"):
        monkeypatch.setattr(cifar_ssl.pretrain, name, lambda run: None)
    monkeypatch.setattr(cifar_ssl, "questions", lambda learned, test: probe)
    monkeypatch.setattr(cifar_ssl, "linear_and_knn", last)
    monkeypatch.setattr(cifar_ssl.time, "perf_counter", lambda: now[0])
    images = [torch.zeros(n, 3, 2, 2, dtype=torch.uint8) for n in (50_000, 10_000)]
    learned, test = (Images(x, torch.arange(len(x)) % 10, None, (), "x", "train", "x") for x in images)
    out = results.Results(tmp_path / "out", "cifar-ssl")
    desk = sitting.Sitting(Clock(60 * minutes, lambda: now[0]), out, tmp_path, None, None, 0, False)
    now[0] += 15 + 60 * minutes / 8  # reading, the bench
    if (minutes, slower) == (3, 8):
        with pytest.raises(Problem, match="an epoch of the three arms takes .*: give more minutes"):
            cifar_ssl.run(desk, learned, test, None, 1000)
    else:
        cifar_ssl.run(desk, learned, test, None, 1000)
        epochs = {count for _, count in trained}
        assert [arm for arm, _ in trained] == list(cifar_ssl.ARMS) and len(epochs) == 1
        assert now[0] > 60 * minutes * 0.6 or slower > 1, "the time is used"
    assert now[0] <= 60 * minutes + main.__globals__["GRACE"]
    found = rows_of(out, "positives")
    assert found["steps of sampling"] == steps and found["candidates of each anchor"] in (1, 2)


def rows_of(out, table):
    return {row["measure"]: row["value"] for row in out.rows if row["table"] == table}


@pytest.mark.parametrize("compiled", ["fast", "slow", "broken"])
def test_what_compiling_gains_is_tried_and_a_broken_compiler_ends_nothing(compiled, tmp_path, monkeypatch):
    now = [0.0]

    def one_step(step, progress, errors):
        assert progress == 0
        if errors == "compiled" and compiled == "broken":
            raise RuntimeError("no compiler")
        now[0] += {"fast": 0.5, "slow": 2.0}[compiled] if errors else 1.0

    out = results.Results(tmp_path / "out", "embedded")
    desk = SimpleNamespace(device=SimpleNamespace(type="cuda"), results=out)
    monkeypatch.setattr(torch, "compile", lambda function: "compiled")
    monkeypatch.setattr(sitting, "_wait", lambda where: None)
    monkeypatch.setattr(sitting.time, "perf_counter", lambda: now[0])
    errors, steps = sitting.fastest(desk, Clock(1000, lambda: now[0]), "plain", one_step)
    assert errors == ("compiled" if compiled == "fast" else None)
    assert steps == 2 * sitting.TRIAL + (sitting.TRIAL if compiled != "broken" else 0)
    measures = [row["measure"] for row in out.rows]
    assert measures[0] == "seconds of a step" and len(measures) == (1 if compiled == "broken" else 3)
    assert sitting.fastest(desk, Clock(50, lambda: now[0]), "plain", one_step)[0] is None  # too short


def test_the_compiled_function_makes_no_schedule_and_equals_the_plain_one():
    config = sitting.training.TrainingConfig(unet=tiny.unet(skips=(0,)), batch=4)
    unet, graphs = UNet(config.unet), []

    def backend(graph, inputs):
        graphs.append(str(graph.graph))
        return graph.forward

    errors = torch.compile(sitting.training.squared_errors, backend=backend, fullgraph=True)
    batch = sitting.training.draw(torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8), 0, config)
    found, expected = (sitting.training.losses(unet, batch, f) for f in (errors, None))
    assert same_numbers(found, expected)
    assert len(graphs) == 1 and "cumprod" not in graphs[0] and "conv" in graphs[0]


# ------------------------------------------------------------------------------------------------- packing


def test_packed_photographs_are_the_same_pixel_for_pixel(photographs, parts):
    assert len(list(parts.iterdir())) == 4
    for split, images in zip(packed.SPLITS, packed.read(parts, "cifar10"), strict=True):
        source = catalog.load("cifar10", split, root=photographs)
        assert torch.equal(images.images, source.images) and torch.equal(images.labels, source.labels)
        assert images.classes == source.classes and images.fingerprint == source.fingerprint


def test_parts_of_any_number_of_images_come_back():
    draw = np.random.default_rng(0)
    for n in (1, 100, 101):
        pixels = draw.integers(0, 4, (n, 32, 32, 3), dtype=np.uint8)
        about = {"labels": [0] * n, "sha256": packed._digest(pixels)}
        back, _ = packed._read_part(packed.io.BytesIO(packed._zipped(about, packed._sheets(pixels))), "a part")
        assert np.array_equal(back, pixels)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"lacks part 2 of 4 of cifar10: bring cifar10-2of4\.zip"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), r"cifar10-2of4\.zip cannot be read"),
        (lambda path: path.write_bytes(b""), r"cifar10-2of4\.zip cannot be read"),
    ],
)
def test_a_missing_or_damaged_part_is_named(parts, tmp_path, capsys, spoil, words):
    copies = tmp_path / "parts"
    shutil.copytree(parts, copies)
    spoil(copies / "cifar10-2of4.zip")
    with pytest.raises(Problem, match=words):
        packed.read(copies, "cifar10")


def test_every_flipped_bit_of_a_part_is_noticed(parts, tmp_path):
    whole = (parts / "cifar10-1of4.zip").read_bytes()
    expected, _ = packed._read_part(packed.io.BytesIO(whole), "whole")
    draw = np.random.default_rng(0)
    refused = 0
    for place in draw.integers(0, len(whole), 40):
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << int(draw.integers(8))
        try:
            pixels, about = packed._read_part(packed.io.BytesIO(bytes(spoiled)), "a part")
        except Problem:
            refused += 1
        else:  # a bit that nothing reads, such as a date
            assert np.array_equal(pixels, expected)
    assert refused > 20


# ----------------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["embedded", "--minutes", "6"], "torch sees no card here: rent one, .* or try the sitting with --rehearse"),
        (["embedded", "--minutes", "2"], "2 minutes are not what embedded can use: give from 3 to 1440"),
        (["bench", "--minutes", "0.5"], "0.5 minutes are not what bench can use: give from 1 to 1440"),
        (["embedded", "--minutes", "nan"], "nan minutes are not what embedded can use"),
        (["embedded", "--minutes=-6"], "-6 minutes are not what embedded can use"),
        (["cifar-diffusion", "--data", "/nowhere"], "there is no folder /nowhere: correct --data"),
        (["cifar-ssl", "--rehearse"], "name its results with --weights"),
        (["cifar-diffusion", "--rehearse", "--data", "{here}"], "no 'cifar10' in"),
        (["cifar-diffusion", "--rehearse"], "this sitting needs CIFAR-10: name its packed parts, .* with --data"),
        (["cifar-ssl", "--rehearse", "--data", "{parts}", "--weights", "{here}"], "holds no results of a sitting"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(words, sentence, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench, "run", lambda *args: None)
    monkeypatch.delenv("SYNPOS_DATA", raising=False)
    words = [word.format(here=tmp_path, parts=parts) for word in words]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert re.search(sentence, error), error
    assert not (tmp_path / "out").exists(), "the corrected command must find an empty folder"


def test_too_little_memory_or_a_full_folder_is_refused_before_a_minute_is_spent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3_200_000_000, 8_000_000_000))
    assert main(["cifar-diffusion", "--out", str(tmp_path / "out")]) == 2
    assert "needs 30 GB of memory on the card, and 3.2 GB are free" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("")
    assert main(["embedded", "--rehearse", "--out", str(tmp_path / "out")]) == 2
    assert "is not empty: name another folder" in capsys.readouterr().err


def test_results_that_were_damaged_on_their_way_are_refused(home, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(home / "embedded", copy)
    (copy / "results.csv").write_text("table\n")
    with pytest.raises(Problem, match="results.csv is missing or is not what sitting.json says"):
        results.read(copy)
    with pytest.raises(Problem, match="holds no weights of 'cifar10', as it is of the sitting embedded"):
        results.read_weights(home / "embedded", "cifar10")


def test_weights_are_cut_into_files_that_may_travel(tmp_path):
    out = results.Results(tmp_path / "out", "embedded")
    network = torch.nn.ModuleList([torch.nn.Linear(1000, 2500, bias=False) for _ in range(8)])  # 5 MB each in fp16
    out.keep("large", network, {})
    out.save(finished=True)
    found = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(found) == 3 and all(path.stat().st_size <= results.FILE_LIMIT for path in found)
    weights, _ = results.read_weights(tmp_path / "out", "large")
    assert all(torch.equal(weights[name], value.half().float()) for name, value in network.state_dict().items())
    for i in range(5):
        out.keep(f"more {i}", network, {})
    out.save(finished=True)
    found = list((tmp_path / "out").iterdir())
    assert len(found) <= results.FILES and sum(path.stat().st_size for path in found) <= results.ALL_LIMIT


def test_nothing_is_imported_that_a_bare_card_lacks():
    """It has torch, torchvision, safetensors, pandas, scikit-learn, matplotlib, and diffusers' wheel."""
    lacking = "IPython ipykernel ipywidgets jupyterlab lightly nbconvert nbformat openTSNE papermill seaborn snakemake"
    code = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
sys.modules |= dict.fromkeys({lacking.split()!r})
import bench, cifar_diffusion, cifar_ssl, embedded, packed, record
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
