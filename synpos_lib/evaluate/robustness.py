"""Distribution shift: the clean test set beside test sets that differ from what was trained on, each in one way.

    sets = robustness.test_sets("scenes", n=1000, judge=judge)
    rows = robustness.measure(encoder, train, sets)

One linear head is fitted to clean training features, as in `evaluate.linear`, and evaluated on every test set. The mean
corruption error (Hendrycks & Dietterich, 2019, https://arxiv.org/abs/1903.12261) is the mean over
corruptions c of

    CE_c = sum_s error_{c,s} / sum_s error of the reference_{c,s}

Differs from the papers in: the reference is an encoder of the same comparison, not AlexNet.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.arrays import empty
from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.data.corruptions import CORRUPTIONS, corrupt
from synpos_lib.data.images import Images, take
from synpos_lib.data.images import images_fingerprint as fingerprint
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.judge import Judge
from synpos_lib.train.frozen import Frozen

CLEAN, SEVERITIES = "clean", range(1, 6)
FRESH, POOL = 1, 2  # seeds of drawings; no other set of the embedded data has them
HARDEST = 4  # the hard set is a quarter of the drawings, those that the judge is least sure of

Load = Callable[[], Images]


def test_sets(
    dataset: str,
    *,
    n: int | None = None,  # images of each set; None: all there are
    corrupted: int = 200,  # images of each of the 50 corrupted sets, which stay in memory
    judge: Judge | None = None,  # chooses the hard examples of the embedded data; none of the encoders compared
    folder: str = "",  # holds one tree of images for each further shift, such as imagenet-a/CLASS/*.jpg
    size: int | None = None,  # pixels; None: the set's own
) -> dict[str, Load]:
    """Test sets by name: `clean`, the shifts, and the corruptions from `+fog-1` to `+fog-5`; loaded when called."""
    official = functools.partial(catalog.load, dataset, "test", size=size)
    clean = functools.cache(lambda: official(n=n))
    sets: dict[str, Load] = {CLEAN: clean}
    if dataset == "scenes":
        sets["unseen scenes"] = lambda: catalog.load("scenes-held-out", "test", n=n)
        sets["sketch"] = lambda: catalog.load("scenes-sketch", "test", n=n)
        sets["re-sampled"] = lambda: official(n=n, seed=FRESH)
        if judge is not None:
            sets["hard"] = lambda: hardest(official(n=HARDEST * len(clean()), seed=POOL), judge, len(clean()))
    sets["style"] = lambda: replace(clean(), images=restyle(clean().images), name=f"{dataset}, other style")
    further = _in_folder(folder, clean) if folder else {}
    if not any(name.startswith("+") for name in further):
        few = functools.cache(lambda: official(n=min(corrupted, len(clean()))))
        for name, severity in itertools.product(CORRUPTIONS, SEVERITIES):
            sets[f"+{name}-{severity}"] = functools.partial(_corrupted, few, name, severity)
    return {name: functools.cache(load) for name, load in sets.items()} | further


def settings(train: Images, sets: dict[str, Load]) -> dict:
    """What the accuracies depend on, beside the encoder: the images, and how they are changed."""
    corrupted = [name for name, load in sets.items() if _is_corrupted(load)]  # by us; what a folder holds may change
    prints = {name: load().fingerprint for name, load in sets.items() if name not in corrupted}
    count = len(sets[corrupted[0]]()) if corrupted else 0
    return {"labelled": train.fingerprint, "sets": prints, "corrupted": corrupted, "images of each": count}


def measure(encoder: Frozen, train: Images, sets: dict[str, Load], *, seed: int = 0) -> list[dict]:
    """The accuracy of one frozen encoder on every test set, with one head: rows of target, metric, value and n."""
    plain, mirrored = encoder(train.images), encoder(train.images, flip=True)
    weight, bias = linear.fit(plain, mirrored, train.truth, seed=seed)
    rows = []
    for name, load in sets.items():
        test = load()
        truth, known = _labels(test, train.classes)
        if (truth < 0).any():
            test, truth = take(test, (truth >= 0).nonzero().squeeze(1)), truth[truth >= 0]
        value = linear.accuracy((encoder(test.images) @ weight.T + bias)[:, known], torch.searchsorted(known, truth))
        rows.append({"target": name, "factor": "what", "metric": "linear", "value": value, "n": len(truth)})
    return rows


def _labels(test: Images, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The labels of a test set in the head's numbering, -1 for unknown classes, and the classes the head may predict.

    For a set with only some of the classes (ImageNet-A, -R) the head chooses among those, as is usual.
    """
    number = torch.tensor([classes.index(name) if name in classes else -1 for name in test.classes])
    known = number[number >= 0].sort().values
    if not len(known):
        raise Problem(f"'{test.name}' has none of the classes of the training images: its folders need the same names")
    return number[test.truth], known


# ---------------------------------------------------------------------------------------------- shifts


def restyle(images: Tensor, seed: int = 0) -> Tensor:
    """The same things painted differently: broad strokes (a median of 3×3 pixels), four shades, colours exchanged."""
    rng = runtime.generator(seed, "style")
    order = torch.rand(len(images), 3, generator=rng).argsort(1)  # which channel each image's red, green, blue become
    out = empty(images.shape)
    for rows in torch.arange(len(images)).split(256):
        x = F.pad(images[rows].float(), (1, 1, 1, 1), mode="replicate")
        patches = x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (B, 3, H, W, 9)
        shades = (patches.median(4).values / 64).floor() * 85  # 0, 85, 170, 255
        index = order[rows][:, :, None, None].expand_as(shades)
        out[rows] = shades.gather(1, index).to(torch.uint8)
    return out


def hardest(pool: Images, judge: Judge, n: int) -> Images:
    """The n images of a pool whose true class has the least probability for the judge."""
    sure = judge(pool.images)["what"][torch.arange(len(pool)), pool.truth]
    return take(pool, sure.argsort(stable=True)[:n].sort().values)


def _is_corrupted(load: Load) -> bool:
    """Whether a set is one that `_corrupted` computes."""
    return getattr(getattr(load, "__wrapped__", None), "func", None) is _corrupted


def _corrupted(load: Load, name: str, severity: int) -> Images:
    clean = load()
    return replace(clean, images=corrupt(clean.images, name, severity), name=f"{clean.name}+{name}-{severity}")


def _in_folder(folder: str, clean: Load) -> dict[str, Load]:
    """The shifts in a folder by name: a tree of images, trees by corruption and severity, or CIFAR-10.1's arrays."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise Problem(f"no folder {place}: it should hold one folder for each shift, such as imagenet-a/CLASS/*.jpg")
    shifts: dict[str, Load] = {}
    for path in sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if list(path.glob("*_data.npy")):
            shifts[path.name] = functools.partial(_cifar_101, path, clean)
        elif severities := sorted(path.glob("*/[1-5]")):
            shifts |= {f"+{tree.parent.name}-{tree.name}": functools.partial(_tree, tree, clean) for tree in severities}
        else:
            shifts[path.name] = functools.partial(_tree, path, clean)
    if not shifts:
        raise Problem(f"{place} holds no folder: it should hold one for each shift, such as imagenet-a/CLASS/*.jpg")
    return shifts


def _tree(path: Path, clean: Load) -> Images:
    """All images of a tree, at the size of the clean ones."""
    size = clean().images.shape[-1]
    parts = [catalog.load(f"folder:{path}", split, size=size) for split in ("train+val", "test")]
    images = torch.cat([part.images for part in parts], out=empty((sum(map(len, parts)), 3, size, size)))
    labels = torch.cat([part.truth for part in parts])
    return replace(parts[1], images=images, labels=labels, name=path.name, fingerprint=fingerprint(images, labels))


def _cifar_101(path: Path, clean: Load) -> Images:
    """CIFAR-10.1 as it is published: two arrays, images and labels."""
    data = sorted(path.glob("*_data.npy"))[-1]  # v6 where v4 is there too
    labels = data.with_name(data.name.replace("_data", "_labels"))
    if not labels.exists():
        raise Problem(f"{path} holds {data.name} without {labels.name}: put both there")
    images = torch.from_numpy(np.load(data)).permute(0, 3, 1, 2).contiguous()
    truth = torch.from_numpy(np.load(labels)).long()
    return replace(clean(), images=images, labels=truth, name=path.name, fingerprint=fingerprint(images, truth))


# ----------------------------------------------------------------------------------- corruption errors


def corruptions(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of corrupted test sets, with the column `corruption`."""
    names = frame.target.str.extract(r"^\+(.+)-[1-5]$")[0]
    return frame.assign(corruption=names)[names.notna()]


def corruption_errors(frame: pd.DataFrame, baseline: str, by: Sequence[str]) -> pd.DataFrame:
    """The mean corruption error of every encoder, relative to the baseline method with the same seed."""
    keys = [*by, "seed"]
    errors = 1 - corruptions(frame).groupby([*keys, "corruption", "method"], sort=False).value.mean()
    shares = errors / errors.xs(baseline, level="method").reindex(errors.index.droplevel("method")).to_numpy()
    return shares.groupby([*keys, "method"], sort=False).mean().reset_index()


def in_shares_of(frame: pd.DataFrame, baseline: str, by: Sequence[str]) -> pd.DataFrame:
    """The same rows with `value` divided by the baseline method's mean, where it is not 0, in each group of `by`."""
    usual = frame[frame.method == baseline].groupby(list(by)).value.mean().rename("usual").replace(0, np.nan)
    joined = frame.join(usual, on=list(by))
    return joined.assign(value=joined.value / joined.usual).drop(columns="usual")


def shifts(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per encoder and shift: the corrupted sets become one, `corruptions`, with the accuracy 1 - error."""
    keys = [name for name in frame.columns if name not in ("target", "value", "n")]
    parts = corruptions(frame)
    rest, total = frame.drop(parts.index), {"value": ("value", "mean"), "n": ("n", "sum")}
    for by in ([*keys, "corruption"], keys):
        parts = parts.groupby(by, as_index=False, sort=False, dropna=False).agg(**total)
    return pd.concat([rest, parts.assign(target="corruptions")], ignore_index=True)[list(frame.columns)]
