"""What a frozen encoder has learned: linear and kNN accuracy for every factor whose labels are known."""

from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.data.images import Images
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.train.frozen import Frozen


def factors(*sets: Images) -> dict[str, list[Tensor]]:
    """The labels of each factor in every set: of *what*, and of *where* when the scenes are known."""
    labels = {"what": [part.labels for part in sets], "where": [part.where for part in sets]}
    known = {factor: [y for y in values if y is not None] for factor, values in labels.items()}
    return {factor: values for factor, values in known.items() if len(values) == len(sets)}


def linear_and_knn(
    encoder: Frozen, train: Images, test: Images, *, learning_rate: float = 1.0, seed: int = 0
) -> list[dict]:
    """The linear layer of `evaluate.linear` and kNN with k = 20 on labelled images; one row per number."""
    features = encoder(train.images), encoder(train.images, flip=True), encoder(test.images)
    where = runtime.device() if runtime.fits(sum(part.nbytes for part in features), runtime.device()) else "cpu"
    z, mirrored, z_test = (part.to(where) for part in features)
    rows = []
    for factor, (y, truth) in factors(train, test).items():
        weight, bias = linear.fit(z, mirrored, y, learning_rate=learning_rate, seed=seed)
        top1 = linear.accuracy((z_test @ weight.T + bias).cpu(), truth)
        values = {"linear": top1, "kNN": knn_accuracy(z, y, z_test, truth)}
        rows += [{"factor": factor, "metric": metric, "value": v, "n": len(truth)} for metric, v in values.items()]
    return rows
