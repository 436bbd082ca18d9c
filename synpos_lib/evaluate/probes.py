"""What can be read from features: while an encoder learns, and from every block of a diffusion model; and a map."""

import numpy as np
import torch

from synpos_lib.core import runtime
from synpos_lib.evaluate import collapse
from synpos_lib.evaluate.knn import knn_accuracy


def knn_probe(train, asked):
    """For pretrain: kNN accuracy (train's images vote, the labels of `asked` are asked for), and healthy features?"""

    def probe(encoder) -> dict[str, float | str]:
        z, z_asked, z_mirrored = encoder(train.images), encoder(asked.images), encoder(asked.images, flip=True)
        health = collapse.monitor(z_asked[:1000], z_mirrored[:1000])
        return {"knn": knn_accuracy(z, train.labels, z_asked, asked.labels), **health, **collapse.warning(health)}

    return probe


def linear_accuracy(train, labels, test, test_labels, *, ridge: float = 1e-2) -> float:
    """Accuracy of W = argmin |Z W - Y|² + ridge · n |W|², with Y one-hot and Z standardised: a closed form.

    Fast enough to ask of every block; for the tables, see `evaluate.linear`.
    """
    mean, std = train.mean(0), train.std(0) + 1e-6
    z, z_test = (_with_bias((part - mean) / std).double() for part in (train, test))  # (N, D + 1)
    y = torch.nn.functional.one_hot(labels).double() - 0.5  # (N, classes)
    gram = z.T @ z + ridge * len(z) * torch.eye(z.shape[1], dtype=z.dtype)
    weight = torch.linalg.solve(gram, z.T @ y)
    return ((z_test @ weight).argmax(1) == test_labels).double().mean().item()


def _with_bias(z: torch.Tensor) -> torch.Tensor:
    return torch.cat([z, torch.ones(len(z), 1)], 1)


def probe_blocks(unet, train, test, timesteps, *, seed: int = 0):
    """Linear and kNN accuracy of each factor from every block's pooled features at every timestep, as a table."""
    import pandas as pd

    from synpos_lib.diffusion.features import blocks, pooled

    names = list(blocks(unet))
    factors = {"what": (train.labels, test.labels)}
    if train.where is not None:
        factors["where"] = (train.where, test.where)
    rows = []
    for t in runtime.progress(timesteps, "timesteps probed"):
        z, z_test = (pooled(unet, part.images, t, names, seed=seed + i) for i, part in enumerate((train, test)))
        for name in names:
            row = {"block": name, "t": t}
            for factor, (y, y_test) in factors.items():
                row[f"linear {factor}"] = linear_accuracy(z[name], y, z_test[name], y_test)
                row[f"knn {factor}"] = knn_accuracy(z[name], y, z_test[name], y_test)
            rows.append(row)
    return pd.DataFrame(rows)


def tsne(features: torch.Tensor, *, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """t-SNE from a PCA start, seeded: (N, D) -> (N, 2)."""
    from openTSNE import TSNE

    method = TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=runtime.use_threads())
    return np.asarray(method.fit(features.numpy()))
