"""Checks for the exercises: each describes the most likely mistake, without the answer.

A check yields dictionaries {sentence: whether it applies}; the first sentence that applies is printed.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from pandas import DataFrame
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.data import scenes

Mistakes = Iterator[dict[str, bool]]


def _check(mistakes: Callable[..., Mistakes]) -> Callable[..., None]:
    """Turn a generator of mistakes into a check that prints the first that applies, or "Right."."""

    @functools.wraps(mistakes)
    def check(function: Callable, *context: object) -> None:
        def answer(*arguments: object) -> object:
            if (value := function(*arguments)) is None:
                raise Problem("the function returns nothing so far; replace the dots and return a value")
            return value

        try:
            pairs = (pair for stage in mistakes(answer, *context) for pair in stage.items())
            message = next((f"Not yet: {sentence}." for sentence, wrong in pairs if wrong), "Right.")
        except Problem as problem:
            message = f"Not yet: {problem}."
        print(message)

    return check


def _near(value: float | torch.Tensor, other: float | torch.Tensor, tolerance: float = 1e-3) -> bool:
    """Whether no number differs by more than the tolerance."""
    return bool((torch.as_tensor(value) - torch.as_tensor(other)).abs().max() < tolerance)


@_check
def check_wrong_partner(function: Callable) -> Mistakes:
    """Notebook 00: partners that share the place and not the species."""
    anchors = scenes.render(200, seed=5)
    partners = function(anchors)
    complete = hasattr(partners, "images") and len(partners.where) == len(anchors.where)
    yield {"return what scenes.render gives, with one partner for each anchor": not complete}
    same = (partners.what == anchors.what).float().mean()
    yield {
        "these are the anchors themselves; draw them with another seed": torch.equal(partners.images, anchors.images),
        "the places differ from the anchors'; pass where=anchors.where": not torch.equal(partners.where, anchors.where),
        "the partners share the species too; do not pass what": same > 0.5,
    }


@_check
def check_noisy(function: Callable) -> Mistakes:
    """Notebook 01: the forward process."""
    x, eps = torch.full((2, 2), 3.0), torch.full((2, 2), 0.5)
    value = torch.as_tensor(function(x, 0.64, eps))
    yield {
        "the squares of the two weights add up to 1; both weights need a square root": _near(value, 2.1),
        "the noise has the weight sqrt(1 - alpha_bar), not 1 - sqrt(alpha_bar)": _near(value, 2.5),
        "alpha_bar is the signal's share, and the image is the signal; exchange the two": _near(value, 2.2),
        "compare with the formula, term by term": not _near(value, 0.8 * x + 0.6 * eps),
    }


@_check
def check_last_readable(function: Callable, scores: DataFrame) -> Mistakes:
    """Notebook 02: the noisiest timestep at which the bottleneck can be read."""
    value = function(scores, "what", 0.1)
    middle = scores[scores.block == "mid"]
    readable, every = middle[middle["linear what"] > 0.2].t, scores[scores["linear what"] > 0.2].t
    guess = middle[middle["linear what"] > 0.1].t
    if value == readable.max() or (value != value and readable.empty):
        return
    yield {
        "this is the cleanest timestep; the question is how much noise is possible": value == readable.min(),
        "this looks at every block; select the bottleneck, 'mid'": value == every.max(),
        "anything above chance counts here; the question asks for more than twice chance": value == guess.max(),
        "check the limit, twice chance": True,
    }


@_check
def check_silence_late(function: Callable) -> Mistakes:
    """Notebook 03: silence the bottleneck in the last steps only."""
    h = torch.ones(2, 3)
    late, early = function(100, h), function(500, h)
    reverse = torch.equal(late, h) and not early.any()
    yield {
        "it is the other way round: sampling runs from t = 999 down to 0, so late means small t": reverse,
        "nothing depends on t here; compare it with the limit": torch.equal(late, early),
        "early steps must stay as they are, late ones zero": not torch.equal(early, h) or bool(late.any()),
    }


@_check
def check_mix_pixels(function: Callable) -> Mistakes:
    """Notebook 04: mixing pixels."""
    image, anchor = (torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (200, 100))
    value = function(image, anchor, 0.1)
    yield {"return uint8 again, so that it can be shown": value.dtype != torch.uint8}
    mixed = value.float().mean().item()
    yield {
        "w is the image's own share; the anchor's is 1 - w": _near(mixed, 190, 2),
        f"200 and 100 at w = 0.1 gave {mixed:.0f}; convert to float before mixing": not _near(mixed, 110, 1),
    }


@_check
def check_is_copy(function: Callable) -> Mistakes:
    """Notebook 05: copies, from pixels alone."""
    image = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    spot = image.clone()
    spot[:, 0, 0] = 150
    others = (image, image - 3, spot, image + 60, image - 60)
    same, darker, one_spot, brighter, much_darker = (bool(function(other, image)) for other in others)
    right = (same, darker, one_spot, brighter, much_darker) == (True, True, True, False, False)
    yield {
        "3 grey levels darker is within the tolerance; uint8 differences wrap around, use float": same and not darker,
        "positive and negative differences must not cancel; take the absolute value": much_darker and not brighter,
        "one different pixel does not make a new image; take the mean difference, not the largest": darker
        and not one_spot,
        "take the mean absolute difference": not right,
    }


@_check
def check_cosines_first(function: Callable) -> Mistakes:
    """Notebook 05a: the columns of a layer, for another order of its inputs."""
    weights = torch.arange(12.0).view(2, 6)  # of sine 0, cosine 0, sine 1, cosine 1, sine 2, cosine 2
    value, wanted = function(weights), weights[:, [1, 3, 5, 0, 2, 4]]
    yield {"return all columns, (n, 2 m)": tuple(value.shape) != (2, 6)}
    yield {
        "these are the sines first; theirs begin with a sine, ours with the cosines": torch.equal(
            value, weights[:, [0, 2, 4, 1, 3, 5]]
        ),
        "nothing has moved; take every second column": torch.equal(value, weights),
        "reorder the columns, which belong to the inputs, not the rows": torch.equal(value, weights.flip(0)),
        "put the columns 1, 3, 5, … first, then 0, 2, 4, …": not torch.equal(value, wanted),
    }


@_check
def check_blind_share(function: Callable) -> Mistakes:
    """Notebook 05b: right positives by chance, for any frequencies."""
    even, uneven = function([50] * 10), function([90, 10])
    yield {
        "this is right for equal frequencies only; an anchor of a frequent class finds its like more often": _near(
            uneven, 0.5
        ),
        "this is the chance of the frequent class only; take the mean over all anchors": _near(uneven, 0.9),
        "counts are not frequencies; divide by their sum": even > 1,
        "multiply the share of anchors of a class by the share of images of that class, and add up": not (
            _near(even, 0.1) and _near(uneven, 0.82)
        ),
    }


@_check
def check_mutual(function: Callable) -> Mistakes:
    """Notebook 06: neighbours that choose each other."""
    neighbour = torch.tensor([1, 0, 1, 4, 5, 3])  # 0 and 1 choose each other, 3 to 5 form a circle
    value = torch.as_tensor(function(neighbour))
    complete = value.dtype == torch.bool and value.shape == neighbour.shape
    yield {"return one truth value per image; compare two index tensors with ==": not complete}
    yield {
        "nobody is mutual here, though 0 and 1 choose each other; compare with torch.arange": not value.any(),
        "2 chooses 1, but 1 chooses 0; look up the neighbour of the neighbour": bool(value[2]),
        "two hops must lead back, not three": value.tolist() != [True, True, False, False, False, False],
    }


@_check
def check_effective_rank(function: Callable) -> Mistakes:
    """Notebook 07: how many directions features use."""
    z = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([8.0, 4, 2, 1, 1, 1])
    value, moved = float(function(z)), float(function(z + 100))
    s = torch.linalg.svdvals(z - z.mean(0))
    entropy, squared = (torch.special.entr(shares / shares.sum()).sum() for shares in (s, s**2))
    yield {
        "adding one vector to all features must change nothing; subtract the mean first": not _near(value, moved, 0.01),
        "this is the entropy; its exponential counts directions": _near(value, entropy, 0.01),
        "these are shares of the squared singular values; do not square them": _near(value, squared.exp(), 0.01),
        "shares p = s / sum(s), entropy -sum p log p, then exp": not _near(value, entropy.exp(), 0.01),
    }


@_check
def check_paired_interval(function: Callable) -> Mistakes:
    """Notebook 08: the interval of a paired difference."""
    ours, theirs = [0.61, 0.70, 0.66, 0.72, 0.58], [0.58, 0.69, 0.62, 0.70, 0.57]
    d = torch.tensor(ours, dtype=torch.float64) - torch.tensor(theirs, dtype=torch.float64)
    low, high = (float(end) for end in function(ours, theirs))
    right = stats.t.ppf(0.975, 4)
    reach = (high - low) / 2 / (d.std().item() / 5**0.5)  # in standard errors
    middle = _near((low + high) / 2, d.mean(), 1e-6)
    yield {
        "the middle of the interval must be the mean of ours minus theirs": not middle,
        "the spread is that of all pairs; divide by the square root of their number": _near(reach, right * 5**0.5),
        "1.96 is for many runs; five need the t distribution with four degrees of freedom": _near(reach, 1.959964),
        "degrees of freedom are one less than pairs": _near(reach, stats.t.ppf(0.975, 5)),
        "95 % in the middle leave 2.5 % on each side, not 5 %": _near(reach, stats.t.ppf(0.95, 4)),
        "the spread is estimated from the same pairs; divide by n - 1, not by n": _near(reach, right * 0.8**0.5),
        "this is as wide as if the runs were not paired; take the difference of each pair first": reach > 4,
        "compare with the formula, term by term": not _near(reach, right),
    }


@_check
def check_mean_per_class(function: Callable) -> Mistakes:
    """Notebook 09: classes of different size."""
    labels, truth = torch.tensor([0, 0, 0, 0, 3, 0, 3, 1]), torch.tensor([0, 0, 0, 0, 3, 3, 3, 3])
    value, biggest = float(function(labels, truth)), float(function(torch.zeros(10).long(), torch.eye(10)[9].long()))
    yield {
        "it is not a number; average only over the classes that occur in truth": value != value or biggest != biggest,
        "this is how often each predicted class was right; go through the classes of truth": _near(value, 0.6),
        "with nine cats and one dog, always 'cat' scores 0.9 here; this is plain accuracy": _near(biggest, 0.9),
        "classes that never occur count as zero here; average over truth.unique()": _near(value, 0.375),
        "one share for each class, then their mean": not (_near(value, 0.75) and _near(biggest, 0.5)),
    }


@_check
def check_choose(function: Callable) -> Mistakes:
    """Notebook 10: which list decides, and which reports."""
    value = function([0.5, 0.9, 0.6], [0.8, 0.7, 0.6])  # validation, test
    yield {"return two things, the index and the accuracy": not isinstance(value, tuple) or len(value) != 2}
    yield {
        "the test accuracies decide here, so the best of them is luck; let validation decide": value == (0, 0.8),
        "this reports the accuracies that decided, and the best of them is luck; report test": value == (1, 0.9),
        "return the index of the best validation accuracy, and the test accuracy at that index": value != (1, 0.7),
    }


@_check
def check_mean_corruption_error(function: Callable) -> Mistakes:
    """Notebook 11: the mean corruption error."""
    errors, reference = torch.tensor([[0.1, 0.9], [0.2, 0.4]]), torch.tensor([[0.1, 1.0], [0.4, 0.4]])
    value = torch.as_tensor(function(errors, reference))
    yield {"return one number, the mean over the corruptions": value.ndim > 0}
    both = _near(value, errors.sum() / reference.sum(), 1e-4)
    columns = _near(value, (errors.sum(0) / reference.sum(0)).mean(), 1e-4)
    right = _near(value, (errors.sum(1) / reference.sum(1)).mean(), 1e-4)
    single = _near(value, (errors / reference).mean(), 1e-4)
    yield {
        "this divides severity by severity; sum over the severities first": single,
        "this sums over corruptions too, so that a hard one counts more; all should count equally": both,
        "this sums over the corruptions; the severities are the columns": columns,
        "sum over severities, divide by the reference's sum, then the mean": not right,
    }


@_check
def check_mixed(function: Callable) -> Mistakes:
    """Notebook 12: concatenate two halves and blend a fractal in."""
    original, edit, fractal = (torch.full((3, 4, 6), value, dtype=torch.uint8) for value in (200, 100, 50))
    value = function(original, edit, fractal)
    same = value.dtype == torch.uint8 and value.shape == original.shape
    yield {
        "return uint8 of the same shape, so that it can be shown": not same,
        "the input images have changed; work on a clone": bool((original != 200).any() or (edit != 100).any()),
    }
    halves = value[..., :3].float(), value[..., 3:].float()
    flat = all(half.std() == 0 for half in halves)
    yield {"the halves lie beside each other: cut the last axis, the width": not flat}
    left, right = (half.mean().item() for half in halves)
    swap, good = _near(left, 80, 2) and _near(right, 60, 2), _near(left, 170, 2) and _near(right, 90, 2)
    yield {
        "the original belongs on the left, the edit on the right": left < right,
        "the weight is the fractal's share; the hybrid's is 1 - weight": swap,
        f"a half of 200 with a fractal of 50 gave {left:.0f}; convert to float before mixing": not good,
    }


@_check
def check_shortened(function: Callable) -> Mistakes:
    """Notebook 06b: a momentum that fits the length of a training."""
    long, short = function(0.99, 30_000), function(0.9995, 900)
    yield {
        "0.99 remembers 100 steps, less than a thirtieth of 30,000, and stays": not _near(long, 0.99),
        "0.9995 remembers 2,000 steps, more than there are in 900": short > 0.999,
        "the memory of 900 steps should be 30 of them, so that 1 / (1 - tau) = 900 / 30": not _near(
            short, 1 - 30 / 900
        ),
    }


@_check
def check_lucky(function: Callable) -> Mistakes:
    """Notebook 13: untrue claims that hold by luck."""
    value, n = function(28), 28
    yield {
        "an interval below zero misses it too, but there nothing holds; count one side only": _near(value, 1 - 0.95**n),
        "this is the expected count; at least one has probability 1 minus that of none": value > 1 or _near(value, 0.7),
        "this is the chance for one claim; that none of n is lucky is an n-th power": _near(value, 0.025),
        "start from the probability that none of them is lucky": not _near(value, 1 - 0.975**n),
    }
