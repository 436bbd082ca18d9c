"""The positives browser marks exactly the partners of another species."""

import pytest
import torch

from synpos_lib.data import catalog
from synpos_lib.lab import explore
from synpos_lib.lab.explore import panel, partners


class Oracle:
    """A judge that calls everything species 0."""

    def labels(self, images):
        return {"what": torch.zeros(len(images), dtype=torch.long)}


class Pixels:
    """An encoder whose features are the pixels."""

    def __call__(self, images):
        return images.flatten(1).float()


@pytest.fixture(scope="module")
def shown():
    train = catalog.load("scenes", "train", n=30)
    store = torch.randint(0, 255, (30, 4, 3, 32, 32), dtype=torch.uint8)
    return train, store


def test_false_partners_are_those_of_another_species(shown):
    train, store = shown
    friends = {"untrained": torch.arange(30).roll(1)[:, None].repeat(1, 5)}  # everyone's friends: the one before
    table = partners.partners_of(7, train, store, Oracle(), friends)
    assert list(table.partner) == ["synthetic"] * 4 + ["untrained"] * 5
    assert set(table.false[:4]) == {train.labels[7].item() != 0}
    assert set(table.false[4:]) == {train.labels[7].item() != train.labels[6].item()}
    assert torch.equal(table.image[4], train.images[6])
    assert torch.equal(table.image[0], store[7, 0])


def test_each_false_partner_has_a_frame(shown):
    train, store = shown
    friends = {"untrained": torch.arange(30)[None].repeat(30, 1)[:, :6]}
    table = partners.partners_of(3, train, store, Oracle(), friends)
    figure = partners.picture(3, train, table)
    assert len(figure.axes[0].patches) == table.false.sum()
    assert [text.get_text().split("\n")[0] for text in figure.axes[0].get_yticklabels()] == ["synthetic", "untrained"]
    partners.figures.plt.close(figure)


def test_the_anchor_can_be_chosen(shown, monkeypatch):
    monkeypatch.setattr(panel.runtime, "in_batch", lambda: False)
    monkeypatch.setattr(panel, "_values", {})
    controls, screen = explore.positives_browser(*shown, Oracle(), {0: Pixels(), 8: Pixels()}).children
    first = screen.value
    assert "Anchor 0:" in first and "untrained:" in first and "after 8 epochs:" in first
    controls.children[0].value = 9
    assert "Anchor 9:" in screen.value and screen.value != first
