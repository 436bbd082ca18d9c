"""How often a trained classifier is right on test images."""

from synpos_lib.data.catalog import Images
from synpos_lib.train import classify


def accuracy(model: classify.Classifier, tests: dict[str, Images]) -> list[dict]:
    """A row with the share of right answers for each test set."""
    rows = []
    for target, test in tests.items():
        right = classify.predict(model, test.images)["what"].argmax(1) == test.truth
        value = right.double().mean().item()
        rows.append({"target": target, "factor": "what", "metric": "accuracy", "value": value, "n": len(test)})
    return rows
