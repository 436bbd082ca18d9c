"""How often a trained classifier is right on test images."""

from synpos_lib.data.images import Images
from synpos_lib.evaluate import linear
from synpos_lib.train import classify


def accuracy(model: classify.Classifier, tests: dict[str, Images]) -> list[dict]:
    """A row with the share of right answers for each test set."""
    rows = []
    for target, test in tests.items():
        value = linear.accuracy(classify.predict(model, test.images)["what"], test.truth)
        rows.append({"target": target, "factor": "what", "metric": "accuracy", "value": value, "n": len(test)})
    return rows
