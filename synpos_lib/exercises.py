"""Checks for the exercises: each says what a common mistake is, and never gives the answer away."""

from collections.abc import Callable

import torch


def _tell(problem: str | None) -> None:
    print(f"Not yet: {problem}." if problem else "Right.")


def _returned_nothing(value: object) -> str | None:
    return "the function returns nothing so far; replace the dots and return a value" if value is None else None


def check_wrong_partner(function: Callable) -> None:
    """Notebook 00: partners that share the place and not the species."""
    from synpos_lib.data import scenes

    anchors = scenes.render(200, seed=5)
    made = function(anchors)
    if problem := _returned_nothing(made):
        return _tell(problem)
    if not hasattr(made, "where") or len(made.where) != len(anchors.where):
        return _tell("return what scenes.render gives, with one partner for each anchor")
    if torch.equal(made.images, anchors.images):
        return _tell("these are the anchors themselves; draw them with another seed")
    if not torch.equal(made.where, anchors.where):
        return _tell("the places differ from the anchors'; pass where=anchors.where")
    if (made.what == anchors.what).float().mean() > 0.5:
        return _tell("the partners share the species too; leave what to chance")
    _tell(None)


def check_noisy(function: Callable) -> None:
    """Notebook 01: the forward process."""
    x, eps = torch.full((2, 2), 3.0), torch.ones(2, 2)
    value = function(x, 0.64, eps)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value = torch.as_tensor(value)
    if torch.allclose(value, 0.64 * x + 0.36 * eps):
        return _tell("signal and noise add up in their squares; both shares need a square root")
    if torch.allclose(value, 0.8 * x + 0.2 * eps):
        return _tell("the noise has the weight sqrt(1 - alpha_bar), not 1 - sqrt(alpha_bar)")
    _tell(None if torch.allclose(value, 0.8 * x + 0.6 * eps) else "compare with the formula, term by term")


def check_last_readable(function: Callable, scores) -> None:
    """Notebook 02: the noisiest timestep at which the bottleneck can be read."""
    value = function(scores, "what", 0.1)
    if problem := _returned_nothing(value):
        return _tell(problem)
    middle = scores[scores.block == "mid"]
    readable = middle[middle["linear what"] > 0.2].t
    if len(readable) and value == readable.min() != readable.max():
        return _tell("this is the cleanest timestep; the question is how much noise it bears")
    if value == scores[scores["linear what"] > 0.2].t.max() != readable.max():
        return _tell("this looks at every block; select the bottleneck, 'mid'")
    expected = readable.max()
    _tell(None if value == expected or (value != value and expected != expected) else "check the limit, twice chance")


def check_silence_late(function: Callable) -> None:
    """Notebook 03: silence the bottleneck in the last steps only."""
    h = torch.ones(2, 3)
    late, early = function(100, h), function(500, h)
    if problem := _returned_nothing(late) or _returned_nothing(early):
        return _tell(problem)
    if torch.equal(late, h) and not early.any():
        return _tell("it is the other way round; sampling runs from t = 999 down to 0, so late means small t")
    _tell(None if torch.equal(early, h) and not late.any() else "early steps must stay as they are, late ones zero")


def check_mix_pixels(function: Callable) -> None:
    """Notebook 04: mixing pixels."""
    image, anchor = (torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (200, 100))
    value = function(image, anchor, 0.1)
    if problem := _returned_nothing(value):
        return _tell(problem)
    if value.dtype != torch.uint8:
        return _tell("return uint8 again, so that it can be shown")
    mixed = value.float().mean().item()
    if abs(mixed - 190) < 2:
        return _tell("w is the image's own share; the anchor's is 1 - w")
    _tell(None if abs(mixed - 110) < 1 else f"200 and 100 at w = 0.1 gave {mixed:.0f}; convert to float before mixing")


def check_is_copy(function: Callable) -> None:
    """Notebook 05: copies, from pixels alone."""
    image = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    darker, other = image - 3, image + 60
    answers = [function(made, image) for made in (image, darker, other)]
    if problem := next(filter(None, map(_returned_nothing, answers)), None):
        return _tell(problem)
    if answers[0] and not answers[1]:
        return _tell("3 grey levels darker is within the tolerance; uint8 differences wrap around, use float")
    _tell(None if [bool(answer) for answer in answers] == [True, True, False] else "take the mean absolute difference")


def check_mutual(function: Callable) -> None:
    """Notebook 06: neighbours that choose each other."""
    neighbour = torch.tensor([1, 0, 1, 4, 5, 3])  # 0 and 1 choose each other, 3 to 5 go round in a circle
    value = function(neighbour)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value = torch.as_tensor(value)
    if value.dtype != torch.bool or value.shape != neighbour.shape:
        return _tell("return one truth value per image; compare two index tensors with ==")
    if not value.any():
        return _tell("nobody is mutual here, though 0 and 1 choose each other; compare with torch.arange, who one is")
    if value[2]:
        return _tell("2 chooses 1, but 1 chooses 0; ask whom the neighbour chooses")
    _tell(None if value.tolist() == [True, True, False, False, False, False] else "two hops must lead back, not three")


def check_effective_rank(function: Callable) -> None:
    """Notebook 07: how many directions features use."""
    z = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([8.0, 4, 2, 1, 1, 1])
    value, moved = function(z), function(z + 100)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value, moved = float(value), float(moved)
    if abs(value - moved) > 0.01:
        return _tell("adding the same vector to every feature must change nothing; subtract the mean first")
    s = torch.linalg.svdvals(z - z.mean(0))
    p, squared = s / s.sum(), s**2 / (s**2).sum()
    entropy = torch.special.entr(p).sum()
    if abs(value - entropy) < 0.01:
        return _tell("this is the entropy; its exponential counts directions")
    if abs(value - torch.special.entr(squared).sum().exp()) < 0.01:
        return _tell("these are the shares of the squared singular values; take the singular values themselves")
    _tell(None if abs(value - entropy.exp()) < 0.01 else "shares p = s / sum(s), entropy -sum p log p, then exp")
