"""Images by name: every kind of set, its splits, its cache, and what bad input gets."""

import hashlib
import json
import os
import socket
import sys
import time
import warnings
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from PIL import Image

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog, corruptions, decoded, pictures, scenes
from synpos_lib.data.catalog import load
from synpos_lib.data.images import images_fingerprint

ROWS = {"rose": (220, 30, 60), "sky": (60, 120, 230), "leaf": (40, 160, 60)}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, and data only where the test has put it."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def paint(path: Path, colour, size=(8, 8), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 20, (*size[::-1], 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype("uint8")).save(path)


def tree(folder: Path, per_class=10, size=(8, 8)):
    for c, (name, colour) in enumerate(ROWS.items()):
        for i in range(per_class):
            paint(folder / name / f"{i:02d}.png", colour, size, seed=100 * c + i)
    return folder


@pytest.fixture
def data(tmp_path):
    tree(tmp_path / "data" / "cifar10" / "train", 20, (32, 32))
    tree(tmp_path / "data" / "cifar10" / "test", 5, (32, 32))
    return tmp_path / "data"


def stored(data):
    """The files of decoded images, temporary ones too."""
    return sorted(path for path in (data / "decoded").iterdir() if path.name != ".locks")


def pixels(images):
    return [image.numpy().tobytes() for image in images.images]


# ----------------------------------------------------------------------------------------- embedded


@pytest.mark.parametrize("name", catalog.EMBEDDED)
def test_embedded_sets_are_deterministic_and_their_splits_disjoint(name):
    first, again, test = load(name, n=60), load(name, n=60), load(name, "test", n=60)
    assert first.images.shape == (60, 3, 32, 32) and first.images.dtype == torch.uint8
    assert torch.equal(first.images, again.images) and first.fingerprint == again.fingerprint
    assert not set(pixels(first)) & set(pixels(test))
    assert first.labels.max() < len(first.classes) and len(first) == 60
    assert (first.where is not None) == ("species" in name or "scenes" in name) == bool(first.scenes)


def test_the_source_and_its_shifts():
    assert load("scenes", n=5).classes == scenes.SPECIES
    assert load("new-species", n=5).classes == scenes.NEW_SPECIES
    assert load("scenes-held-out", n=5).scenes == scenes.HELD_OUT_SCENES
    source, sketch, foggy = (load(name, "test", n=30) for name in ("scenes", "scenes-sketch", "scenes+fog-3"))
    assert torch.equal(source.labels, sketch.labels) and torch.equal(source.labels, foggy.labels)
    assert len({source.fingerprint, sketch.fingerprint, foggy.fingerprint}) == 3
    assert foggy.name == "scenes+fog-3"


# -------------------------------------------------------------------------------------- fingerprint


def test_fingerprint_sees_every_pixel_and_label_and_the_shape():
    images, labels = torch.randint(0, 256, (5, 3, 4, 4)).byte(), torch.arange(5)
    wanted = hashlib.sha256(b"(5, 3, 4, 4)" + images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert images_fingerprint(images, labels) == wanted
    pixel, label = images.clone(), labels.clone()
    pixel[4, 2, 3, 3] ^= 1
    label[0] = 4
    others = [(pixel, labels), (images, label), (images, None), (images.reshape(5, 3, 2, 8), labels)]
    assert wanted not in [images_fingerprint(*other) for other in others]
    assert images_fingerprint(images[::2]) == images_fingerprint(images[::2].clone())


# -------------------------------------------------------------------------------------------- trees


def test_a_tree_is_decoded_pixel_for_pixel_and_split_by_class(data):
    parts = {split: load("cifar10", split) for split in ("train", "val", "test", "train+val")}
    assert [len(parts[s]) for s in parts] == [54, 6, 15, 60]
    assert parts["train"].classes == ("leaf", "rose", "sky")
    assert parts["val"].labels.bincount().tolist() == [2, 2, 2]
    assert sorted(pixels(parts["train"]) + pixels(parts["val"])) == sorted(pixels(parts["train+val"]))
    assert not set(pixels(parts["train"])) & set(pixels(parts["val"]))
    on_disk = {}
    for file in (data / "cifar10" / "train").rglob("*.png"):
        on_disk[np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes()] = file.parent.name
    for image, label in zip(pixels(parts["train+val"]), parts["train+val"].labels, strict=True):
        assert on_disk.pop(image) == parts["train"].classes[label]
    assert not on_disk
    for part in parts.values():
        assert part.fingerprint == images_fingerprint(part.images, part.labels)


def test_the_cache_is_memory_mapped_and_used_again(data, monkeypatch):
    first = load("cifar10")
    assert len(list((data / "decoded").glob("*.npy"))) == 1
    monkeypatch.setattr(decoded, "_decode", None)  # decoding again would fail
    again = load("cifar10")
    assert again.fingerprint == first.fingerprint and torch.equal(again.images, first.images)
    file = next((data / "decoded").glob("*.npy")).resolve()
    assert any(
        line.rstrip().endswith(str(file)) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    )
    before = file.read_bytes()
    again.images[:] = 0  # a slip of the user's stays in memory
    assert file.read_bytes() == before


def test_one_tree_gets_a_seeded_stratified_split(tmp_path):
    name = f"folder:{tree(tmp_path / 'mine', 20)}"
    parts = [load(name, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [43, 5, 12]
    assert all(part.labels.bincount().max() - part.labels.bincount().min() <= 1 for part in parts)
    everything = [image for part in parts for image in pixels(part)]
    assert len(set(everything)) == 60
    assert parts[0].images.shape[2:] == (32, 32) and load(name, "test", size=8).images.shape[2:] == (8, 8)
    assert set(pixels(load(name, "test", seed=1))) != set(pixels(parts[2]))


def test_val_beside_train_is_the_test_split_unless_there_is_a_test(tmp_path):
    tree(tmp_path / "a" / "train", 10), tree(tmp_path / "a" / "val", 3)
    assert [len(load(f"folder:{tmp_path / 'a'}", s)) for s in ("train", "val", "test")] == [27, 3, 9]
    tree(tmp_path / "a" / "test", 2)
    assert [len(load(f"folder:{tmp_path / 'a'}", s)) for s in ("train", "val", "test")] == [30, 9, 6]


def test_images_are_resized_on_the_shorter_side_and_cropped_in_the_centre(tmp_path):
    from torchvision.transforms import v2

    y, x = np.mgrid[:60, :100]
    picture = np.stack([x * 2.5, y * 4, 128 + 100 * np.sin(x / 9)], -1).clip(0, 255).astype("uint8")
    for i in range(5):
        (tmp_path / "t" / "train" / "one").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "t" / "train" / "one" / f"{i}.png")
    ours = load(f"folder:{tmp_path / 't'}", size=24).images[0]
    pixels = torch.from_numpy(picture).permute(2, 0, 1)
    theirs = v2.Compose([v2.Resize(24, antialias=True), v2.CenterCrop(24)])(pixels)
    assert ours.shape == (3, 24, 24) and (ours.int() - theirs.int()).abs().float().mean() < 1.5


def test_n_takes_a_seeded_stratified_subset(data):
    some, again, other = (load("cifar10", n=12, seed=s) for s in (0, 0, 1))
    assert some.labels.bincount().tolist() == [4, 4, 4]
    assert some.fingerprint == again.fingerprint != other.fingerprint
    assert set(pixels(some)) <= set(pixels(load("cifar10")))
    with pytest.raises(Problem, match="has 15 images in 'test', not 16"):
        load("cifar10", "test", n=16)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_first_images_are_a_fair_sample(tmp_path, split):
    name = f"folder:{tree(tmp_path / 'mine', 40)}"
    images = load(name, split)
    for n in (3, 6, len(images) - 1):
        counts = images.labels[:n].bincount(minlength=3)
        assert counts.max() - counts.min() <= 1
        assert torch.equal(load(name, split, n=n).images, images.images[:n])


def test_grey_transparent_and_palette_images_become_rgb(tmp_path):
    folder = tmp_path / "g" / "train" / "one"
    folder.mkdir(parents=True)
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        Image.new("RGB", (8, 8), "white").convert(mode).save(folder / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    images = load(f"folder:{tmp_path / 'g'}", "train+val").images
    assert images.shape == (5, 3, 32, 32) and images.min() > 250


# ------------------------------------------------------------------------------------ damaged things


def damage_train(data):
    rose = data / "cifar10" / "train" / "rose"
    (rose / "03.png").write_bytes((rose / "03.png").read_bytes()[:200])
    (rose / "04.png").write_text("not an image")
    (rose / "05.png").write_bytes(b"")


def test_corrupt_images_are_named_and_counted(data):
    damage_train(data)
    for _ in range(2):
        with pytest.raises(Problem, match=r"3 of 60 images .*train/rose/03.png .*rose/04.png .*replace or remove them"):
            load("cifar10")
    assert not stored(data)
    assert len(load("cifar10", "test")) == 15


def test_mended_images_are_read_anew(data):
    damage_train(data)
    with pytest.raises(Problem):
        load("cifar10")
    tree(data / "cifar10" / "train", 20, (32, 32))
    assert len(load("cifar10", "train+val")) == 60


def test_nothing_readable_at_all(tmp_path):
    (tmp_path / "x" / "one").mkdir(parents=True)
    (tmp_path / "x" / "one" / "a.png").write_text("no")
    with pytest.raises(Problem, match="1 of 1 images in .* cannot be read: one/a.png"):
        load(f"folder:{tmp_path / 'x'}", size=8)


def cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)


def flip_and_hide(file):
    times = file.stat()
    flip(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def objects(file):
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, flip_and_hide, objects, empty])
def test_a_damaged_cache_is_set_aside_and_made_anew(data, harm):
    before = load("cifar10")
    wanted, file = before.fingerprint, next((data / "decoded").glob("*.npy"))
    harm(file)
    with pytest.warns(UserWarning, match="is damaged .*set aside"):
        again = load("cifar10")
    assert again.fingerprint == wanted == images_fingerprint(again.images, again.labels)
    assert file.with_name(file.name + ".damaged").exists()


def test_edited_labels_and_a_damaged_manifest_are_not_believed(data):
    wanted = load("cifar10").fingerprint
    note = next((data / "decoded").glob("*.json"))
    manifest = json.loads(note.read_text())
    manifest["labels"][0] = 1 - manifest["labels"][0]
    for content in (json.dumps(manifest), note.read_text()[:50], "[]"):
        note.write_text(content)
        with pytest.warns(UserWarning, match="damaged"):
            assert load("cifar10").fingerprint == wanted


def test_any_flipped_bit_of_a_cache_is_noticed(data):
    wanted = load("cifar10").fingerprint
    file = next((data / "decoded").glob("*.npy"))
    whole = file.read_bytes()
    for bit in range(0, 1024, 37):  # of its head
        file.write_bytes(bytes([whole[i] ^ (1 << bit % 8 if i == bit // 8 else 0) for i in range(128)]) + whole[128:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert load("cifar10").fingerprint == wanted, bit
        assert file.read_bytes() == whole, bit


def test_a_cache_that_cannot_be_read_is_not_set_aside(data, monkeypatch):
    load("cifar10")
    before = sorted(path.name for path in (data / "decoded").iterdir())

    def fail(*arguments):
        raise Problem("could not read it: too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("synpos_lib.core.files.read_bytes", fail)
        with pytest.raises(Problem, match="too many open files"):
            load("cifar10")
    assert sorted(path.name for path in (data / "decoded").iterdir()) == before


def test_a_large_cache_is_trusted_only_while_its_time_and_size_stay(data, monkeypatch):
    monkeypatch.setattr(decoded, "ALWAYS_CHECKED", 0)
    load("cifar10")
    flip(next((data / "decoded").glob("*.npy")))
    with pytest.warns(UserWarning, match="damaged"):
        load("cifar10")


@pytest.mark.parametrize("change", ["content", "removed", "added"])
def test_changed_files_are_decoded_anew(data, change):
    before = load("cifar10", "train+val")
    rose = data / "cifar10" / "train" / "rose"
    if change == "content":
        paint(rose / "00.png", (0, 0, 0), (32, 32))
    elif change == "removed":
        (rose / "00.png").unlink()
    else:
        paint(rose / "99.png", (0, 0, 0), (32, 32))
    after = load("cifar10", "train+val")
    assert after.fingerprint != before.fingerprint
    assert len(after) - len(before) == {"content": 0, "removed": -1, "added": 1}[change]


def test_a_full_disk_loses_nothing_and_says_so(data, monkeypatch):
    wanted = load("cifar10").fingerprint

    def full(descriptor):
        raise OSError(28, "No space left on device")

    paint(data / "cifar10" / "train" / "rose" / "99.png", (0, 0, 0), (32, 32))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Problem, match=r"No space left on device.*MB.*SYNPOS_DATA"):
            load("cifar10")
    assert [path.suffix for path in stored(data)] == [".json", ".npy"]
    (data / "cifar10" / "train" / "rose" / "99.png").unlink()
    assert load("cifar10").fingerprint == wanted


def load_and_say(said, slowly):
    """In a process of its own: the images' fingerprint and how many pictures were decoded for it."""
    read, count = pictures.read, 0

    def counted(path, size):
        nonlocal count
        count += 1
        time.sleep(slowly)
        return read(path, size)

    pictures.read = counted
    fingerprint = load("cifar10").fingerprint
    said.write_text(f"{fingerprint} {count}")


def test_two_processes_that_want_the_same_set_decode_it_once(data, tmp_path):
    context = torch.multiprocessing.get_context(children.METHOD)
    said = [tmp_path / name for name in "ab"]
    both = [context.Process(target=load_and_say, args=(file, 0.01)) for file in said]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    (first, n), (second, m) = (file.read_text().split() for file in said)
    assert first == second == load("cifar10").fingerprint and sorted([int(n), int(m)]) == [0, 60]
    assert [path.suffix for path in stored(data)] == [".json", ".npy"]


def test_what_a_killed_decoding_left_is_cleared_at_once(data, tmp_path):
    context = torch.multiprocessing.get_context(children.METHOD)
    process = context.Process(target=load_and_say, args=(tmp_path / "said", 0.05))
    process.start()
    while process.is_alive() and not (
        (data / "decoded").exists() and any(path.suffix == ".part" for path in stored(data))
    ):
        time.sleep(0.01)
    process.kill()
    process.join()
    left = stored(data)
    assert [path.suffix for path in left] == [".part"]
    left[0].with_name(left[0].name.replace(".part", ".4711")).touch()  # as an earlier version named it
    assert len(load("cifar10")) == 54
    assert [path.suffix for path in stored(data)] == [".json", ".npy"]


def test_another_reader_decodes_anew(data, monkeypatch):
    load("cifar10")
    assert {"data/pictures.py", "data/trees.py"} <= set(decoded.code_fingerprint(*decoded.CODE))
    monkeypatch.setattr(decoded, "code_fingerprint", lambda *modules: "another reader")
    monkeypatch.setattr(pictures, "read", lambda path, size: np.zeros((3, size, size), np.uint8))
    assert load("cifar10").images.max() == 0


def test_a_change_behind_a_linked_class_folder_is_noticed(data, tmp_path):
    rose = data / "cifar10" / "train" / "rose"
    rose.rename(tmp_path / "elsewhere")
    rose.symlink_to(tmp_path / "elsewhere")
    before = load("cifar10", "train+val")
    paint(tmp_path / "elsewhere" / "00.png", (0, 0, 0), (32, 32))
    assert load("cifar10", "train+val").fingerprint != before.fingerprint


def test_data_that_can_only_be_read_is_cached_in_the_home_folder(data, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    load("cifar10")
    assert not (data / "decoded").exists()
    assert list((tmp_path / "home" / ".cache" / "synpos" / "decoded").glob("*.npy"))


# ------------------------------------------------------------------------------- what can't be found


@pytest.mark.parametrize("name", catalog.REAL)
def test_a_missing_set_names_the_folder_what_was_expected_and_the_embedded_one(name, tmp_path):
    with pytest.raises(Problem) as error:
        load(name)
    text = str(error.value)
    assert str(tmp_path / "data") in text and catalog.REAL[name].instead in text and "expected" in text
    assert ("--download" in text) == (name not in ("cars", "imagenet100"))
    assert not (tmp_path / "data").exists()  # looking leaves nothing behind


def test_an_incomplete_torchvision_folder_is_one_sentence(tmp_path):
    for name in ("cifar10", "stl10", "pets", "dtd", "food101"):
        (tmp_path / "data" / catalog.REAL[name].folder).mkdir(parents=True)
        with pytest.raises(Problem, match=f"'{name}' in .* is incomplete or damaged"):
            load(name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cifar11",), "did you mean 'cifar10'"),
        (("scenes-sketchy",), "did you mean 'scenes-sketch'"),
        (("scenes+fogg-3",), "did you mean 'fog'"),
        (("scenes+fog-7",), "use 1, 2, 3, 4 or 5"),
        (("scenes", "tset"), "did you mean 'test'"),
        (("scenes", "unlabelled"), "has no split 'unlabelled'"),
        (("cifar10", "unlabelled"), "has no split 'unlabelled'"),
        (("folder:/nowhere/at/all",), "no folder /nowhere/at/all"),
    ],
)
def test_wrong_words_get_the_nearest_right_ones(arguments, sentence):
    with pytest.raises(Problem, match=sentence):
        load(*arguments)


def test_other_wrong_arguments():
    with pytest.raises(Problem, match="leave the size out"):
        load("scenes", size=64)
    with pytest.raises(Problem, match="at least 1"):
        load("scenes", n=0)


def test_trees_that_are_no_trees(tmp_path):
    (tmp_path / "flat").mkdir()
    paint(tmp_path / "flat" / "a.png", (1, 2, 3))
    with pytest.raises(Problem, match="no images in .*one folder per class"):
        load(f"folder:{tmp_path / 'flat'}", size=8)
    tree(tmp_path / "half" / "train", 3)
    with pytest.raises(Problem, match="has train/ but no test/"):
        load(f"folder:{tmp_path / 'half'}", "test")
    tree(tmp_path / "half" / "test", 1)
    paint(tmp_path / "half" / "test" / "alien" / "a.png", (1, 2, 3))
    with pytest.raises(Problem, match="classes that train/ lacks \\(alien\\)"):
        load(f"folder:{tmp_path / 'half'}", "test")


# --------------------------------------------------------------------------------------- torchvision


def test_torchvision_sets_of_files(tmp_path):
    """Tiny copies of the official layouts: labels and splits must be those of torchvision itself."""
    from torchvision import datasets

    root = tmp_path / "data"
    pets = root / "oxford-iiit-pet"
    names = [(f"{breed}_{i}", label) for label, breed in ((1, "Abyssinian"), (2, "Beagle")) for i in range(10)]
    for i, (name, _) in enumerate(names):
        paint(pets / "images" / f"{name}.jpg", (10 * i, 50, 90), (50, 40))
    (pets / "annotations").mkdir()
    for split in ("trainval", "test"):
        lines = [f"{name} {label} 1 1\n" for name, label in names]
        (pets / "annotations" / f"{split}.txt").write_text("".join(lines[:: 1 if split == "trainval" else 4]))
    train, test = load("pets", "train+val", size=16), load("pets", "test", size=16)
    official = datasets.OxfordIIITPet(root, split="test")
    assert sorted(test.labels.tolist()) == [official[i][1] for i in range(len(official))]
    beagle = test.images[:, 0].float().mean((1, 2)) > 100  # the second ten are the redder ones
    assert test.labels.tolist() == beagle.int().tolist()
    assert (len(train), len(load("pets", "val", size=16)), train.classes) == (20, 2, tuple(official.classes))

    for cls in ("banded", "dotted"):
        for i in range(6):
            paint(root / "dtd" / "dtd" / "images" / cls / f"{cls}_{i}.jpg", (90, 50, 40 * i), (20, 30))
    (root / "dtd" / "dtd" / "labels").mkdir()
    for k, split in enumerate(("train", "val", "test")):
        lines = "".join(f"{cls}/{cls}_{i}.jpg\n" for cls in ("banded", "dotted") for i in (2 * k, 2 * k + 1))
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text(lines)
    parts = [load("dtd", split, size=16) for split in ("train", "val", "test", "train+val")]
    assert [len(part) for part in parts] == [4, 4, 4, 8]
    assert parts[1].labels.tolist() == [0, 1, 0, 1]  # the official validation split
    assert torch.equal(parts[3].images, torch.cat([parts[0].images, parts[1].images]))

    caltech = root / "caltech101" / "101_ObjectCategories"
    for cls in ("BACKGROUND_Google", "ant", "bass"):
        for i in range(1, 41):
            paint(caltech / cls / f"image_{i:04d}.jpg", (5 * i, 50, 90), seed=i)
    parts = [load("caltech101", split, size=8) for split in ("train+val", "test")]
    assert [part.labels.bincount().tolist() for part in parts] == [[30, 30], [10, 10]]
    assert parts[0].classes == ("ant", "bass")

    food = root / "food-101"
    (food / "meta").mkdir(parents=True)
    for split in ("train", "test"):
        listed = {cls: [f"{cls}/{split}{i}" for i in range(10)] for cls in ("waffles", "apple_pie")}
        (food / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for path in sum(listed.values(), []):
            paint(food / "images" / f"{path}.jpg", (200 if "waffles" in path else 50, 150, 90))
    test = load("food101", "test", size=8)
    assert sorted(test.labels.tolist()) == [0] * 10 + [1] * 10
    waffles = test.images[:, 0].float().mean((1, 2)) > 125
    assert test.labels.tolist() == waffles.int().tolist()
    assert load("food101", "train", size=8).classes == ("apple_pie", "waffles")


def test_cars_and_flowers_with_their_mat_files(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    cars, kind = tmp_path / "data" / "stanford_cars", [("fname", object), ("class", int)]
    (cars / "devkit").mkdir(parents=True)
    savemat(cars / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "Fiat"], dtype=object)})
    for path, folder in (
        ("devkit/cars_train_annos.mat", "cars_train"),
        ("cars_test_annos_withlabels.mat", "cars_test"),
    ):
        rows = np.array([(f"{i:05d}.jpg", 1 + i % 2) for i in range(10)], dtype=kind)
        savemat(cars / path, {"annotations": rows})
        for i in range(10):
            paint(cars / folder / f"{i:05d}.jpg", (9 * i, 0, 0))
    test = load("cars", "test", size=8)
    assert test.labels.tolist() == [0, 1] * 5 and test.classes == ("Audi", "Fiat")

    flowers = tmp_path / "data" / "flowers-102"
    for i in range(1, 7):
        paint(flowers / "jpg" / f"image_{i:05d}.jpg", (9 * i, 0, 0))
    savemat(flowers / "imagelabels.mat", {"labels": np.array([5, 6, 5, 6, 5, 6])})
    savemat(flowers / "setid.mat", {"trnid": np.array([1, 2]), "valid": np.array([3, 4]), "tstid": np.array([5, 6])})
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)  # its checksums are the real files'
    assert [load("flowers102", s, size=8).labels.tolist() for s in ("train", "val", "test")] == [[4, 5]] * 3
    assert len(load("flowers102", size=8).classes) == 102


def test_sets_that_torchvision_keeps_as_arrays(tmp_path, monkeypatch):
    import pickle

    from torchvision.datasets import CIFAR10, CIFAR100, STL10

    rng, root = np.random.default_rng(0), tmp_path / "data"
    for cls, key in ((CIFAR10, "labels"), (CIFAR100, "fine_labels")):
        monkeypatch.setattr(cls, "_check_integrity", lambda self: True)
        (root / cls.base_folder).mkdir(parents=True)
        for file, _ in cls.train_list + cls.test_list:
            rows = {"data": rng.integers(0, 256, (10, 3072), dtype="uint8"), key: [0, 1] * 5}
            (root / cls.base_folder / file).write_bytes(pickle.dumps(rows))
        meta = {cls.meta["key"]: ["cat", "dog"]}
        (root / cls.base_folder / cls.meta["filename"]).write_bytes(pickle.dumps(meta))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
    test = load("cifar10", "test")
    theirs = CIFAR10(root, train=False)
    known = {
        image.transpose(2, 0, 1).tobytes(): label for image, label in zip(theirs.data, theirs.targets, strict=True)
    }
    assert {image: label for image, label in zip(pixels(test), test.labels.tolist(), strict=True)} == known
    assert test.labels.tolist() == [0, 1] * 5 and test.classes == ("cat", "dog")
    assert [len(load("cifar10", s)) for s in ("train", "val")] == [45, 5]
    assert len(load("cifar100", "train+val")) == 10

    folder = root / "stl10_binary"
    folder.mkdir()
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    for name, n in (("train", 20), ("test", 6), ("unlabeled", 7)):
        rng.integers(0, 256, n * 3 * 96 * 96, dtype="uint8").tofile(folder / f"{name}_X.bin")
        (1 + np.arange(n, dtype="uint8") % 2).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    free = load("stl10", "unlabelled")
    assert free.labels is None and sorted(pixels(free)) == sorted(x.tobytes() for x in STL10(root, "unlabeled").data)
    assert [len(load("stl10", s)) for s in ("train", "val", "test")] == [18, 2, 6]
    assert load("stl10", "test", size=32).images.shape == (6, 3, 32, 32)


# --------------------------------------------------------------------------------------------- rest


def test_nothing_heavy_is_imported_with_the_package():
    import subprocess

    code = "import sys, synpos_lib, synpos_lib.data; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


REAL_IMAGES = os.environ.get("SYNPOS_DATA")  # before the fixture above hides it


@pytest.mark.skipif(not REAL_IMAGES, reason="no real images: SYNPOS_DATA names no folder")
@pytest.mark.parametrize("split", ["train+val", "test"])
def test_real_cifar10(split, tmp_path):
    if not (Path(REAL_IMAGES) / "cifar10").is_dir() and not (Path(REAL_IMAGES) / "cifar-10-batches-py").is_dir():
        pytest.skip(f"no cifar10 in {REAL_IMAGES}")
    images = load("cifar10", split, root=REAL_IMAGES)
    assert images.classes[:3] == ("airplane", "automobile", "bird") and images.images.shape[1:] == (3, 32, 32)
    mean = images.images.float().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.03)  # the published training mean
    assert images.labels.bincount().float().std() == 0


def test_a_corrupted_set_is_the_clean_one_corrupted():
    clean = load("scenes", "test", n=5)
    assert torch.equal(load("scenes+fog-2", "test", n=5).images, corruptions.corrupt(clean.images, "fog", 2))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_tree_with_too_few_images_for_a_split_is_one_sentence(tmp_path, split):
    for name in ("left", "right"):
        paint(tmp_path / "two" / name / "a.png", (1, 2, 3))
    with pytest.raises(Problem, match=f"'folder:.*two' has too few images for the split '{split}': add some to"):
        load(f"folder:{tmp_path / 'two'}", split, size=8)
    assert len(load(f"folder:{tmp_path / 'two'}", "train", size=8)) == 2


def test_test_images_of_a_run_are_drawn_anew_or_the_only_ones_there_are(monkeypatch):
    first, again, other = (catalog.load_test("scenes", 30, seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint and other.split == "test"
    train = images_fingerprint(load("scenes", "train", n=30, seed=1).images)
    assert images_fingerprint(other.images) != train, "not the training images of that seed"
    asked = []
    monkeypatch.setattr(catalog, "load", lambda *args, **options: asked.append((*args, options)))
    catalog.load_test("cifar10", 30, 4)
    assert asked == [("cifar10", "test", {"n": 30, "seed": 0})]
