"""Probes of features, of an encoder that learns and of every block of a diffusion model; and t-SNE."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.data.images import Images
from synpos_lib.diffusion.features import blocks, pooled
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate import collapse
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.evaluate.linear_and_knn import factors
from synpos_lib.train.frozen import Frozen


def knn_probe(train: Images, test: Images) -> Callable[[Frozen], dict[str, float | str]]:
    """For pretrain: kNN accuracy on `test`, with the images of `train` as voters, and the health of the features."""
    y, y_test = factors(train, test)["what"]

    def probe(encoder: Frozen) -> dict[str, float | str]:
        z, z_test, z_mirrored = encoder(train.images), encoder(test.images), encoder(test.images, flip=True)
        return {"knn": knn_accuracy(z, y, z_test, y_test), **collapse.probe(z_test[:1000], z_mirrored[:1000])}

    return probe


def linear_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, ridge: float = 1e-2) -> float:
    """Accuracy of W = argmin |Z W - Y|² + ridge · n |W|², with Y one-hot and Z standardised: a closed form.

    Fast enough to run on every block; the tables use `evaluate.linear`.
    """
    mean, std = train.mean(0), train.std(0) + 1e-6
    z, z_test = (torch.nn.functional.pad((part - mean) / std, (0, 1), value=1.0).double() for part in (train, test))
    y = torch.nn.functional.one_hot(labels).double() - 0.5  # (N, classes)
    gram = z.T @ z + ridge * len(z) * torch.eye(z.shape[1], dtype=z.dtype)
    weight = torch.linalg.solve(gram, z.T @ y)  # (D + 1, classes), the bias last
    return ((z_test @ weight).argmax(1) == test_labels).double().mean().item()


def probe_blocks(unet: UNet, train: Images, test: Images, timesteps: Iterable[int], *, seed: int = 0) -> pd.DataFrame:
    """Linear and kNN accuracy of each factor from every block's pooled features at every timestep, as a table."""
    names, rows = list(blocks(unet)), []
    for t in runtime.progress(timesteps, "timesteps probed"):
        z, z_test = (pooled(unet, part.images, t, names, seed=seed + i) for i, part in enumerate((train, test)))
        for name in names:
            row = {"block": name, "t": t}
            for factor, (y, y_test) in factors(train, test).items():
                row[f"linear {factor}"] = linear_accuracy(z[name], y, z_test[name], y_test)
                row[f"knn {factor}"] = knn_accuracy(z[name], y, z_test[name], y_test)
            rows.append(row)
    return pd.DataFrame(rows)


def tsne(features: Tensor, *, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """t-SNE from a PCA start, seeded: (N, D) -> (N, 2)."""
    from openTSNE import TSNE

    method = TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=runtime.use_threads())
    return np.asarray(method.fit(features.numpy()))
