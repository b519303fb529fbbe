"""A memory bank: labeled documents of earlier batches are nodes in the graph of each later batch.

Letters, beside those of `graph`: C classes, r slots in the ring buffer of each, b (C, r, d) the remembered unit-length
embeddings. A remembered document is an absorbing boundary node and never an anchor. The graph of a batch therefore
needs only one column per class, however many documents are remembered::

    A_ic = log sum_{k remembered, y_k = c} exp(t (z_i . b_k - 1))      t = 1 / s^2

This is one product of the batch with the memory; the linear system keeps the size of the batch. Remembered embeddings
are constants (Wang et al. 2020, "Cross-batch memory for embedding learning"): only the batch gets a gradient.

**No leakage.** The earlier embedding of a document that is in the batch again would reveal its label, to itself and to
its neighbors. So the memory stores the number of each document: copies of documents of the batch are masked, and
their new embeddings replace the old ones.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphloss.losses.graph import MASKED, first_order, no_autocast, unit

MOST_BYTES = 2**30
"""Largest size of a memory: every checkpoint stores all of it, and every step reads it twice."""

TILE = 2**20
"""Similarities computed at once, for as many classes as fit: 4 MB stay in a processor's cache."""

UNKNOWN = -1
"""Number of a document that never comes again, as in a stream; also marks an empty slot."""


class Boundary(NamedTuple):
    """The remembered documents in the graph of one batch."""

    embeddings: Tensor
    """(C, r, d), rows of unit length where shown."""
    shown: Tensor
    """(C, r) boolean."""


class _LogMass(torch.autograd.Function):
    """A = log sum_k exp(t z . b_k) - t per class; its gradient is t times the softmax-weighted mean embedding.

    The forward pass computes these means: the memory may then be overwritten before the backward pass, and only
    (C, n, d) numbers are kept instead of the whole product.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, t: Tensor, b: Tensor, shown: Tensor) -> Tensor:
        hidden = torch.where(shown, 0.0, MASKED).to(z.dtype)[:, None]  # (C, 1, r)
        scaled = t * z  # (n, d)
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        masses, means = [], []
        together = max(1, TILE // max(1, len(z) * b.shape[1]))  # classes
        for rings, mask in zip(b.split(together), hidden.split(together), strict=True):  # (c, r, d), a view
            x = scaled.expand(len(rings), *z.shape).bmm(rings.transpose(1, 2)).add_(mask)  # (c, n, r)
            top = x.amax(dim=2, keepdim=True)  # (c, n, 1)
            x.sub_(top).exp_()  # in place: allocating this much costs as much as the arithmetic
            total = x.sum(dim=2, keepdim=True)  # (c, n, 1), at least 1
            masses.append((top + total.log())[:, :, 0])
            if needs_grad:
                means.append(x.bmm(rings).div_(total))  # (c, n, d)
        if needs_grad:
            ctx.save_for_backward(z, t, torch.cat(means))  # (C, n, d)
        mass = torch.cat(masses).T - t  # (n, C)
        return mass.masked_fill(~shown.any(dim=1), MASKED)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        z, t, mean = ctx.saved_tensors
        with no_autocast(grad):
            pull = torch.einsum("nc,cnd->nd", grad, mean)  # (n, d)
            grad_t = (z * pull).sum() - grad.sum()
        return t * pull, grad_t, None, None


def log_mass(z: Tensor, boundary: Boundary, sigma: float | Tensor) -> Tensor:
    """Log of the summed similarity of each document with the remembered documents of each class.

    Args:
        z: (n, d) rows of unit length.
        boundary: remembered documents; they get no gradient.
        sigma: bandwidth; a number, or a 0-d tensor, which may require a gradient.

    Returns:
        A (n, C) in the dtype of z; `graph.MASKED` for a class without a shown document.
    """
    sigma = torch.as_tensor(sigma, device=z.device, dtype=z.dtype)
    with no_autocast(z):
        mass: Tensor = _LogMass.apply(z, 1.0 / sigma**2, boundary.embeddings.to(z.dtype), boundary.shown)
    return mass


class Memory(nn.Module):
    """Embeddings of earlier labeled documents, one ring buffer per class: every class is present at any batch size.

    The ring of a class holds its last r distinct documents; one that comes again is updated in its slot. All of it is
    in the `state_dict`, so a resumed training has the same memory.

    Args:
        num_classes: C.
        each: r, the documents remembered per class.
        dimensions: d of the embeddings.

    Raises:
        ValueError: a number that is too small, or a memory above `MOST_BYTES`.

    Examples:
        >>> memory = Memory(num_classes=2, each=4, dimensions=3)
        >>> memory.add(torch.randn(6, 3), torch.tensor([0, 0, 1, -1, 0, 0]), documents=torch.arange(6))
        >>> memory.remembered()[1].tolist()
        [0, 0, 0, 0, 1]
    """

    embeddings: Tensor
    documents: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, num_classes: int, each: int, dimensions: int) -> None:
        super().__init__()
        check_size(num_classes, each, dimensions)
        self.num_classes, self.each, self.dimensions = num_classes, each, dimensions
        self.register_buffer("embeddings", torch.zeros(num_classes, each, dimensions))  # (C, r, d)
        self.register_buffer("documents", torch.full((num_classes, each), UNKNOWN))  # (C, r)
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))  # (C,) slots in use
        self.register_buffer("position", torch.zeros(num_classes, dtype=torch.long))  # (C,) next slot to fill

    @torch.no_grad()
    def add(self, embeddings: Tensor, labels: Tensor, documents: Tensor) -> None:
        """Remember the labeled documents of a batch, in their order.

        Args:
            embeddings: (n, d), any floating dtype, any length of rows.
            labels: (n,) class indices, -1 for unlabeled documents, which are skipped. The label of a document must not
                change: it is looked up in the ring of its class only.
            documents: (n,) number of each document, `UNKNOWN` (-1) for one that never comes again. If a document is in
                the batch twice, the last row counts.

        Raises:
            ValueError: shapes, dtypes or labels that do not fit.
        """
        self._check(labels, documents)
        if embeddings.shape != (len(labels), self.dimensions):
            raise ValueError(
                f"the memory takes embeddings ({len(labels)}, {self.dimensions}), got {tuple(embeddings.shape)}"
            )
        twin = (documents[:, None] == documents[None, :]) & (documents != UNKNOWN)[:, None]  # (n, n)
        finite = embeddings.isfinite().all(dim=1)  # one overflow in half precision would spoil all later batches
        kept = ((labels >= 0) & finite & ~twin.triu(1).any(dim=1)).nonzero()[:, 0]  # (l,)
        z, y, names = unit(embeddings[kept]), labels[kept], documents[kept]
        again, places = self._found(y, names)
        self._write(z[again], y[again], names[again], places)
        new = torch.ones_like(y, dtype=torch.bool)  # (l,)
        new[again] = False
        z, y, names = z[new], y[new], names[new]
        count = torch.bincount(y, minlength=self.num_classes)  # (C,)
        order = y.argsort(stable=True)
        rank = torch.empty_like(y)  # number of new documents of its class before it
        rank[order] = torch.arange(len(y), device=y.device) - (count.cumsum(0) - count)[y[order]]
        last = rank >= count[y] - self.each  # these would overwrite the others
        self._write(z[last], y[last], names[last], (self.position[y] + rank)[last] % self.each)
        self.position.copy_((self.position + count) % self.each)
        self.filled.copy_((self.filled + count).clamp_max(self.each))

    @torch.no_grad()
    def boundary(self, labels: Tensor, documents: Tensor) -> Boundary | None:
        """The remembered documents that the graph of a batch may use: all but copies of its own documents.

        Args:
            labels: (n,) class indices, -1 for unlabeled.
            documents: (n,) number of each document, `UNKNOWN` for one that was never remembered.

        Returns:
            The remembered documents, not copied (the next `add` overwrites them), or None if none may be used.

        Raises:
            ValueError: shapes, dtypes or labels that do not fit.
        """
        self._check(labels, documents)
        labeled = labels >= 0
        y = labels[labeled]
        rows, places = self._found(y, documents[labeled])
        shown = self._in_use()  # (C, r)
        shown[y[rows], places] = False
        return Boundary(self.embeddings, shown) if bool(shown.any()) else None

    def remembered(self) -> tuple[Tensor, Tensor]:
        """Embeddings (m, d) and labels (m,) of all remembered documents, class by class."""
        used = self._in_use()
        return self.embeddings[used], used.nonzero()[:, 0]

    def extra_repr(self) -> str:
        """Name the sizes in the module's repr."""
        return f"{self.num_classes} classes x {self.each} documents x {self.dimensions}"

    def _in_use(self) -> Tensor:
        return torch.arange(self.each, device=self.filled.device) < self.filled[:, None]  # (C, r)

    def _found(self, labels: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """Which of l documents are remembered, (m,) rows, and their slots in the ring of their class, (m,)."""
        if not len(documents):
            return labels, labels
        names = documents.sort().values  # (l,), sorted to look up each remembered number without an r x l comparison
        near = names[torch.searchsorted(names, self.documents).clamp_max(len(names) - 1)]  # (C, r)
        ring, place = ((near == self.documents) & (near != UNKNOWN)).nonzero(as_tuple=True)
        same = (documents[:, None] == self.documents[ring, place]) & (labels[:, None] == ring)  # a class's own ring
        row, which = same.nonzero(as_tuple=True)
        return row, place[which]

    def _write(self, z: Tensor, labels: Tensor, documents: Tensor, places: Tensor) -> None:
        self.embeddings[labels, places] = z.to(self.embeddings.dtype)
        self.documents[labels, places] = documents

    def _check(self, labels: Tensor, documents: Tensor) -> None:
        for name, numbers in (("labels", labels), ("documents", documents)):
            if numbers.shape != labels.shape[:1] or numbers.is_floating_point() or numbers.dtype == torch.bool:
                raise ValueError(
                    f"{name} must be whole numbers, one per document of the batch, got {numbers.dtype} "
                    f"{tuple(numbers.shape)} for labels {tuple(labels.shape)}"
                )
        check_labels(labels, self.num_classes)


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise ValueError if a label is not among the classes of a memory."""
    if labels.numel() and (highest := int(labels.max())) >= classes:
        raise ValueError(
            f"label {highest} is out of range: this memory was built for {classes} classes (0 to {classes - 1})"
        )


def check_size(num_classes: int, each: int, dimensions: int) -> None:
    """Refuse an empty memory, or one above `MOST_BYTES`.

    Raises:
        ValueError: with what would fit.
    """
    if min(num_classes, each, dimensions) < 1:
        raise ValueError(
            f"a memory needs classes, documents per class and dimensions of at least 1, got {num_classes}, {each} and "
            f"{dimensions}"
        )
    size = 4 * num_classes * each * dimensions  # float32
    if size > MOST_BYTES:
        fits = MOST_BYTES // (4 * num_classes * dimensions)
        raise ValueError(
            f"a memory of {each:,} documents for each of {num_classes:,} classes takes {size / 2**30:.1f} GiB in "
            f"{dimensions} dimensions, more than {MOST_BYTES / 2**30:.0f} GiB; "
            + (f"remember at most {fits:,} documents per class" if fits else "there are too many classes for a memory")
        )
