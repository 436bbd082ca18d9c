"""The store comes back bit for bit, survives kills, merges from shards, and knows its images."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.data import catalog, positives


class Noise:
    """A generator that adds seeded noise to its anchors, and can be made to die."""

    settings = {"kind": "noise"}

    def __init__(self, calls_before_death=None):
        self.calls, self.limit = 0, calls_before_death

    def generate(self, anchors, k, seed):
        if self.calls == self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        noise = torch.randint(
            0, 50, (len(anchors), k, *anchors.shape[1:]), generator=torch.Generator().manual_seed(seed)
        )
        return (anchors[:, None] // 2 + noise).to(torch.uint8)


@pytest.fixture
def anchors():
    images = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(images=images, fingerprint="f" * 64)


def test_positives_belong_to_their_anchor_and_order_is_kept(tmp_path, anchors):
    positives.make(tmp_path / "store", anchors, Noise(), k=3)
    stored = positives.read(tmp_path / "store", anchors)
    assert stored.shape == (300, 3, 3, 8, 8)
    difference = stored.int() - anchors.images[:, None] // 2
    assert difference.min() >= 0 and difference.max() < 50


def test_an_interrupted_store_continues_and_equals_the_whole_one(tmp_path, anchors):
    positives.make(tmp_path / "whole", anchors, Noise(), k=2)
    with pytest.raises(KeyboardInterrupt):
        positives.make(tmp_path / "killed", anchors, Noise(3), k=2)
    with pytest.raises(Problem, match="not finished"):
        positives.read(tmp_path / "killed", anchors)
    rest = Noise()
    positives.make(tmp_path / "killed", anchors, rest, k=2)
    assert rest.calls == 2  # five chunks, three of them made before
    assert torch.equal(positives.read(tmp_path / "whole", anchors), positives.read(tmp_path / "killed", anchors))


def test_a_store_knows_the_time_of_all_its_sittings_and_the_code_that_made_it(tmp_path, anchors, monkeypatch):
    class Slow(Noise):
        __module__ = "synpos_lib.diffusion.generators"

        def generate(self, *asked):
            time.sleep(0.1)
            return super().generate(*asked)

    with pytest.raises(KeyboardInterrupt):
        positives.make(tmp_path / "store", anchors, Slow(3), k=2)
    assert positives.make(tmp_path / "store", anchors, Slow(), k=2).results["seconds"] > 0.5
    monkeypatch.setattr("synpos_lib.core.runs.code_fingerprint", lambda *names: f"other code in {names}")
    rest = Slow()
    run = positives.make(tmp_path / "store", anchors, rest, k=2)
    assert (
        rest.calls == 5
        and run.config["code"] == "other code in ('synpos_lib.data.positives', 'synpos_lib.diffusion.generators')"
    )


def test_a_chunk_half_written_when_killed_is_made_again(tmp_path, anchors):
    with pytest.raises(KeyboardInterrupt):
        positives.make(tmp_path / "store", anchors, Noise(3), k=2)
    array = np.load(tmp_path / "store" / positives.FILE, mmap_mode="r+")
    array[70] = 0
    array.flush()
    rest = Noise()
    positives.make(tmp_path / "store", anchors, rest, k=2)
    assert rest.calls == 3 and positives.read(tmp_path / "store", anchors)[70].any()


def test_merged_shards_equal_the_whole_store(tmp_path, anchors):
    positives.make(tmp_path / "whole", anchors, Noise(), k=2)
    shards = [tmp_path / f"shard{i}" for i in range(3)]
    for i, shard in enumerate(shards):
        positives.make(shard, anchors, Noise(), k=2, shard=(i, 3))
    with pytest.raises(Problem, match="merge its shards first"):
        positives.read(shards[0], anchors)
    positives.merge(shards[::-1], tmp_path / "merged")
    assert torch.equal(positives.read(tmp_path / "whole", anchors), positives.read(tmp_path / "merged", anchors))


class Labels(Noise):
    """A generator that paints the label it is told."""

    settings = {"kind": "labels"}

    def generate(self, anchors, k, seed, labels):
        return super().generate(anchors, k, seed) * 0 + labels[:, None, None, None, None].to(torch.uint8)


def test_labels_reach_their_anchors_through_chunks_and_shards(tmp_path, anchors):
    labels = torch.arange(300) % 100
    for i in range(2):
        positives.make(tmp_path / f"shard{i}", anchors, Labels(), k=2, labels=labels, shard=(i, 2))
    positives.merge([tmp_path / "shard0", tmp_path / "shard1"], tmp_path / "store")
    stored = positives.read(tmp_path / "store", anchors)
    assert (stored == labels[:, None, None, None, None]).all()


def test_other_labels_make_another_store(tmp_path, anchors, capsys):
    positives.make(tmp_path / "store", anchors, Labels(), k=1, labels=torch.arange(300) % 3)
    positives.make(tmp_path / "store", anchors, Labels(), k=1, labels=torch.arange(300) % 4)
    assert "not reused, since labels was" in capsys.readouterr().out
    assert positives.read(tmp_path / "store", anchors).max() == 3
    with pytest.raises(Problem, match="there are 5 labels for 300 anchors"):
        positives.make(tmp_path / "store", anchors, Labels(), k=1, labels=torch.arange(5))


def test_shards_that_do_not_fit_together_are_refused(tmp_path, anchors):
    for i in (0, 2):
        positives.make(tmp_path / f"shard{i}", anchors, Noise(), k=2, shard=(i, 3))
    with pytest.raises(Problem, match="gap or overlap at row 64"):
        positives.merge([tmp_path / "shard0", tmp_path / "shard2"], tmp_path / "merged")
    positives.make(tmp_path / "other", anchors, Noise(), k=2, seed=1, shard=(1, 3))
    with pytest.raises(Problem, match="was not made like"):
        positives.merge([tmp_path / "shard0", tmp_path / "other"], tmp_path / "merged")


def test_a_store_of_other_images_is_refused(tmp_path, anchors):
    positives.make(tmp_path / "store", anchors, Noise(), k=2)
    other = SimpleNamespace(images=anchors.images, fingerprint="0" * 64)
    with pytest.raises(Problem, match="made from other images"):
        positives.read(tmp_path / "store", other)


def test_a_store_of_another_model_is_refused(tmp_path, anchors):
    model, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

    class Model(Noise):
        settings = {"kind": "noise", "weights": weights_fingerprint(model)}

    for name, maker in {"model": Model(), "none": Noise()}.items():
        positives.make(tmp_path / name, anchors, maker, k=2)
    assert len(positives.read(tmp_path / "model", anchors, model)) == 300
    with pytest.raises(Problem, match=r"another model \(\w{12}\) than this one \(\w{12}\): make them anew"):
        positives.read(tmp_path / "model", anchors, other)
    with pytest.raises(Problem, match=r"another model \(none\) than this one"):
        positives.read(tmp_path / "none", anchors, model)


def test_a_store_that_was_touched_is_not_believed(tmp_path, anchors):
    positives.make(tmp_path / "store", anchors, Noise(), k=2)
    with (tmp_path / "store" / positives.FILE).open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\0\0\0\0\0")
    with pytest.raises(Problem, match="cannot be believed"):
        positives.read(tmp_path / "store", anchors)


def test_candidates_made_elsewhere_are_kept_for_their_anchors_only(tmp_path):
    anchors, others = catalog.load("scenes", n=5), catalog.load("scenes", n=5, seed=1)
    candidates = torch.stack([others.images, anchors.images], 1)  # (5, 2, 3, 32, 32)
    positives.keep(tmp_path / "oracle", anchors, candidates, {"generator": "oracle"})
    assert torch.equal(positives.read(tmp_path / "oracle", anchors), candidates)
    with pytest.raises(Problem, match="other images"):
        positives.read(tmp_path / "oracle", others)
    positives.keep(tmp_path / "oracle", anchors, candidates.flip(1), {"generator": "oracle"})
    assert (torch.tensor(positives.read(tmp_path / "oracle", anchors)) == candidates.flip(1)).all()


def test_a_missing_last_shard_is_noticed(tmp_path):
    anchors = SimpleNamespace(images=torch.zeros(300, 3, 8, 8, dtype=torch.uint8), fingerprint="f")
    for i in (0, 1):
        positives.make(tmp_path / f"{i}", anchors, Noise(), k=1, shard=(i, 3))
    with pytest.raises(Problem, match="to 300 are missing"):
        positives.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "m")
