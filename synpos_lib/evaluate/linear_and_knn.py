"""Ask a frozen encoder what it sees: linear and kNN accuracy for every factor that is known."""

from synpos_lib.core import runtime
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.train.frozen import Frozen


def factors(train, test) -> dict[str, tuple]:
    """What can be asked: the labels, and the scene where it is known; each for training and for test images."""
    known = {"what": (train.labels, test.labels)}
    if train.where is not None:
        known["where"] = (train.where, test.where)
    return known


def linear_and_knn(encoder: Frozen, train, test, *, learning_rate: float = 1.0, seed: int = 0) -> list[dict]:
    """The official linear protocol and kNN with k = 20 for images as from `data.catalog.load`; one row per number."""
    features = encoder(train.images), encoder(train.images, flip=True), encoder(test.images)
    z, mirrored, unseen = (part.to(runtime.device()) for part in features)
    rows = []
    for factor, (y, truth) in factors(train, test).items():
        weight, bias = linear.fit(z, mirrored, y, learning_rate=learning_rate, seed=seed)
        top1, _ = linear.accuracy((unseen @ weight.T + bias).cpu(), truth)
        values = {"linear": top1, "kNN": knn_accuracy(z, y, unseen, truth)}
        rows += [{"factor": factor, "metric": metric, "value": v, "n": len(truth)} for metric, v in values.items()]
    return rows
