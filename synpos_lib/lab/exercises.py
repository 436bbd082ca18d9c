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
    if not hasattr(made, "images") or len(made.where) != len(anchors.where):
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
    x, eps = torch.full((2, 2), 3.0), torch.full((2, 2), 0.5)
    value = function(x, 0.64, eps)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value = torch.as_tensor(value)
    if torch.allclose(value, 0.64 * x + 0.36 * eps):
        return _tell("signal and noise add up in their squares; both shares need a square root")
    if torch.allclose(value, 0.8 * x + 0.2 * eps):
        return _tell("the noise has the weight sqrt(1 - alpha_bar), not 1 - sqrt(alpha_bar)")
    if torch.allclose(value, 0.6 * x + 0.8 * eps):
        return _tell("alpha_bar is the signal's share, and the image is the signal; exchange the two")
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
    if value != expected and value == middle[middle["linear what"] > 0.1].t.max():
        return _tell("anything above chance counts here; the question asks for more than twice chance")
    _tell(None if value == expected or (value != value and expected != expected) else "check the limit, twice chance")


def check_silence_late(function: Callable) -> None:
    """Notebook 03: silence the bottleneck in the last steps only."""
    h = torch.ones(2, 3)
    late, early = function(100, h), function(500, h)
    if problem := _returned_nothing(late) or _returned_nothing(early):
        return _tell(problem)
    if torch.equal(late, h) and not early.any():
        return _tell("it is the other way round; sampling runs from t = 999 down to 0, so late means small t")
    if torch.equal(late, early):
        return _tell("nothing depends on t here; compare it with the limit")
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
    spot = image.clone()
    spot[:, 0, 0] = 150
    made = {"same": image, "3 darker": image - 3, "one spot": spot, "brighter": image + 60, "much darker": image - 60}
    answers = [function(other, image) for other in made.values()]
    if problem := next(filter(None, map(_returned_nothing, answers)), None):
        return _tell(problem)
    said = {name: bool(answer) for name, answer in zip(made, answers, strict=True)}
    if said["same"] and not said["3 darker"]:
        return _tell("3 grey levels darker is within the tolerance; uint8 differences wrap around, use float")
    if said["much darker"] and not said["brighter"]:
        return _tell("60 levels darker passed as a copy; brighter and darker must not cancel, take the absolute value")
    if said["3 darker"] and not said["one spot"]:
        return _tell("one odd pixel makes it no new image; take the mean of the differences, not their maximum")
    _tell(None if list(said.values()) == [True, True, True, False, False] else "take the mean absolute difference")


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


def check_lucky(function: Callable) -> None:
    """Notebook 13: untrue claims that an interval calls reproduced."""
    value = function(28)
    if problem := _returned_nothing(value):
        return _tell(problem)
    if abs(value - (1 - 0.95**28)) < 1e-3:
        return _tell("an interval that lies below zero misses it too, and reproduces nothing; count one side only")
    if value > 1 or abs(value - 28 * 0.025) < 1e-3:
        return _tell("this is how many to expect; the probability of at least one is 1 minus that of none")
    if abs(value - 0.025) < 1e-3:
        return _tell("this is the chance for one claim; none of n is lucky with the n-th power of the rest")
    _tell(None if abs(value - (1 - 0.975**28)) < 1e-3 else "start from the probability that none of them is lucky")


def check_mean_per_class(function: Callable) -> None:
    """Notebook 09: classes of different size."""
    said, truth = torch.tensor([0, 0, 0, 0, 3, 0, 3, 1]), torch.tensor([0, 0, 0, 0, 3, 3, 3, 3])
    value = function(said, truth)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value, biggest = float(value), float(function(torch.zeros(10).long(), torch.tensor([0] * 9 + [1])))
    if value != value or biggest != biggest:
        return _tell("it is not a number; average over the classes that occur in truth, no others")
    if abs(value - 0.6) < 1e-3:
        return _tell("this asks how often what it said was right; go through the classes of truth, not of said")
    if abs(biggest - 0.9) < 1e-3:
        return _tell("nine cats, one dog and always 'cat' is worth 0.9 to it; this is plain accuracy")
    if abs(value - 0.375) < 1e-3:
        return _tell("classes that never occur count as zero here; average over truth.unique()")
    _tell(
        None if abs(value - 0.75) < 1e-3 and abs(biggest - 0.5) < 1e-3 else "one share for each class, then their mean"
    )


def check_paired_interval(function: Callable) -> None:
    """Notebook 08: the interval of a paired difference."""
    from scipy import stats

    ours, theirs = [0.61, 0.70, 0.66, 0.72, 0.58], [0.58, 0.69, 0.62, 0.70, 0.57]
    value = function(ours, theirs)
    if problem := _returned_nothing(value):
        return _tell(problem)
    d = torch.tensor(ours, dtype=torch.float64) - torch.tensor(theirs, dtype=torch.float64)
    low, high = (float(end) for end in value)
    middle, reach, error = (low + high) / 2, (high - low) / 2, d.std().item() / 5**0.5
    if abs(middle - d.mean().item()) > 1e-6:
        return _tell("the middle of the interval must be the mean of ours minus theirs")
    mistakes = {
        "the spread is that of all pairs; divide by the square root of their number": stats.t.ppf(0.975, 4) * 5**0.5,
        "1.96 is for many runs; five need the t distribution with four degrees of freedom": 1.959964,
        "degrees of freedom are one less than pairs": stats.t.ppf(0.975, 5),
        "95 % in the middle leave 2.5 % on each side, not 5 %": stats.t.ppf(0.95, 4),
        "the spread is estimated from the same pairs; divide by n - 1, not by n": stats.t.ppf(0.975, 4) * 0.8**0.5,
    }
    for problem, factor in mistakes.items():
        if abs(reach / error - factor) < 1e-3:
            return _tell(problem)
    if reach > 4 * error:
        return _tell("this is as wide as if the runs were not paired; take the difference of each pair first")
    _tell(None if abs(reach / error - stats.t.ppf(0.975, 4)) < 1e-3 else "compare with the formula, term by term")


def check_mean_corruption_error(function: Callable) -> None:
    """Notebook 11: the mean corruption error."""
    errors, reference = torch.tensor([[0.1, 0.9], [0.2, 0.4]]), torch.tensor([[0.1, 1.0], [0.4, 0.4]])
    value = function(errors, reference)
    if problem := _returned_nothing(value):
        return _tell(problem)
    value = torch.as_tensor(value)
    if value.ndim:
        return _tell("return one number, the mean over the corruptions")
    expected, value = (errors.sum(1) / reference.sum(1)).mean().item(), value.item()
    if abs(value - (errors / reference).mean().item()) < 1e-4:
        return _tell("this divides severity by severity; sum over the severities first")
    if abs(value - (errors.sum() / reference.sum()).item()) < 1e-4:
        return _tell("this sums over corruptions too, so that a hard one counts more; each should count alike")
    if abs(value - (errors.sum(0) / reference.sum(0)).mean().item()) < 1e-4:
        return _tell("this sums over the corruptions; the severities are the columns")
    _tell(None if abs(value - expected) < 1e-4 else "sum over severities, divide by the reference's sum, then the mean")


def check_choose(function: Callable) -> None:
    """Notebook 10: which list decides, and which reports."""
    validation, test = [0.5, 0.9, 0.6], [0.8, 0.7, 0.6]
    value = function(validation, test)
    if problem := _returned_nothing(value):
        return _tell(problem)
    if not isinstance(value, tuple) or len(value) != 2:
        return _tell("return two things, the index and the accuracy")
    if value == (0, 0.8):
        return _tell("the test accuracies decide here, so the best of them is luck; let validation decide")
    if value == (1, 0.9):
        return _tell("this reports the list that decided, and its best is luck; report test")
    _tell(None if value == (1, 0.7) else "the place of the best validation accuracy, and what test says there")


def check_mixed(function: Callable) -> None:
    """Notebook 12: concatenate two halves and blend a fractal in."""
    original, edited, fractal = (torch.full((3, 4, 6), value, dtype=torch.uint8) for value in (200, 100, 50))
    value = function(original, edited, fractal)
    if problem := _returned_nothing(value):
        return _tell(problem)
    if value.dtype != torch.uint8 or value.shape != original.shape:
        return _tell("return uint8 of the same shape, so that it can be shown")
    if (original != 200).any() or (edited != 100).any():
        return _tell("the images that were given have changed; work on a clone")
    left, right = value[..., :3].float(), value[..., 3:].float()
    if left.std() > 0 or right.std() > 0:
        return _tell("the halves lie beside each other: cut the last axis, the width")
    left, right = left.mean().item(), right.mean().item()
    if left < right:
        return _tell("the original belongs on the left, the edit on the right")
    if abs(left - 80) < 2 and abs(right - 60) < 2:
        return _tell("the weight is the fractal's share; the hybrid's is 1 - weight")
    good = abs(left - 170) < 2 and abs(right - 90) < 2
    _tell(None if good else f"a half of 200 with a fractal of 50 gave {left:.0f}; convert to float before mixing")
