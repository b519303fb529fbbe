"""Arrays of any kind as numpy arrays of the expected shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = torch.Tensor | NDArray[Any] | Sequence[Any]


def unit_rows(embeddings: Array) -> NDArray[np.float32]:
    """Rows scaled to unit length, (n, d) float32; a row of zeros stays zero."""
    x = as_matrix(embeddings, "embeddings")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12).astype(np.float32)


def as_numpy(values: Array) -> NDArray[Any]:
    """An array of any kind as numpy; bfloat16, which numpy lacks, becomes float32."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        return np.asarray(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy())
    return np.asarray(values)


def as_matrix(values: Array, name: str, rows: int | None = None) -> NDArray[np.float32]:
    """A matrix (n, d) of float32; with `rows`, of so many rows. Raises ValueError for another shape."""
    x = np.asarray(as_numpy(values), dtype=np.float32)
    if x.ndim != 2 or (rows is not None and len(x) != rows):
        expected = "two dimensions" if rows is None else f"{rows} rows, one per document"
        raise ValueError(f"expected {name} with {expected}, got shape {x.shape}; pass both for the same documents")
    return x


def as_classes(values: Array, num_classes: int) -> NDArray[np.int64]:
    """Class indices (n,), -1 for unlabeled. Raises ValueError where they are no integers from -1 to C - 1."""
    y = as_numpy(values)
    if y.ndim != 1 or (y.size and y.dtype.kind not in "iu"):
        raise ValueError(
            f"expected one integer class per document, got {y.dtype} of shape {y.shape}; map names to indices first"
        )
    if y.size and not (y.min() >= -1 and y.max() < num_classes):
        raise ValueError(f"expected classes from -1 (unlabeled) to {num_classes - 1}, got {y.min()} to {y.max()}")
    return y.astype(np.int64)
