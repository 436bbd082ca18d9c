"""Positives of known quality: other images of the pool, as many of the anchor's class as asked for."""

import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import positives
from synpos_lib.data.images import Images, images_fingerprint
from synpos_lib.data.same_class import SameClass


def pool(labels, classes=("a", "b", "c")):
    """Images whose grey level is their row."""
    labels = torch.tensor(labels)
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return Images(images, labels, None, classes, "p", "train", images_fingerprint(images, labels))


MIXED = pool([0, 2, 1, 0, 1, 2, 2, 0, 1, 0])


def rows_of(made):
    return made[:, :, 0, 0, 0].long()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_is_of_the_anchors_class_and_no_positive_is_its_anchor(share):
    rows = rows_of(SameClass(MIXED, share).generate(MIXED.images, 2000, seed=1))
    assert not (rows == torch.arange(10)[:, None]).any()
    right = MIXED.labels[rows] == MIXED.labels[:, None]
    assert right.double().mean() == pytest.approx(share, abs=0.015)  # 20,000 draws


def test_all_others_of_a_kind_are_equally_likely():
    """Counted for one anchor of the class 0, whose rows are 0, 3, 7 and 9."""
    for share, others in ((1.0, [0, 7, 9]), (0.0, [1, 2, 4, 5, 6, 8])):
        drawn = rows_of(SameClass(MIXED, share).generate(MIXED.images[3:4], 6000, seed=2))[0]
        counts = torch.bincount(drawn, minlength=10)
        assert counts.nonzero()[:, 0].tolist() == others
        expected = 6000 / len(others)
        assert (counts[others] - expected).abs().max() < 5 * expected**0.5


def test_a_store_of_them_is_read_back_and_another_share_is_another_store(tmp_path):
    run = positives.make(tmp_path / "s", MIXED, SameClass(MIXED, 1.0), k=3)
    store = positives.read(run.folder, MIXED)
    assert (MIXED.labels[rows_of(store)] == MIXED.labels[:, None]).all()
    other = positives.make(tmp_path / "t", MIXED, SameClass(MIXED, 0.5), k=3)
    assert other.config["generator"] != run.config["generator"]


def test_a_class_of_one_image_and_a_single_class_are_refused():
    with pytest.raises(Problem, match="only one image of 'b'"):
        SameClass(pool([0, 1, 0, 2, 2]), 0.5)
    with pytest.raises(Problem, match="all these images are of the class 'a'"):
        SameClass(pool([0, 0, 0], classes=("a",)), 0.5)
    SameClass(pool([0, 0, 2, 2]), 0.5)  # of a class that is absent nothing is asked
    lonely = pool([0, 1, 0, 2, 2])
    made = SameClass(lonely, 0.0).generate(lonely.images[1:2], 4, seed=0)
    assert (lonely.labels[rows_of(made)] != 1).all()
