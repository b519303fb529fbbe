"""G-Loss: predict each labeled document of a batch from the labels of the others, propagated over a graph.

Two modes (letters as in `graph` and `propagation`; Sharma, Agarwal, Kumar, arXiv 2604.25853)::

    loo    p_i = sum_{j != i, y_j = y_i} K_ij / sum_{j != i} K_ij      every labeled document i, nothing drawn
           loss = mean_i w(y_i) (1 - p_i^q) / q,  -log p_i for q = 0
           with a memory, the walk also ends at remembered documents
    paper  F_U = (I - T_UU)^-1 T_UL Y_L, T = W with rows, columns, and rows again normalized (their section 3)
           loss = class-weighted cross-entropy of F_U used as logits

A batch needs at least two documents of some class. The mean is over the anchors, the documents that can be predicted
from others: the only document of a class is none. `coverage` is the share of the labeled documents that are anchors.
With alpha = 1 and no unlabeled document, `loo` is exactly NCA at temperature sigma squared.
"""

import math
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from graphloss.losses.graph import MASKED, components, log_affinity, log_share, no_autocast, unit
from graphloss.losses.memory_bank import Boundary, check_labels, log_mass
from graphloss.losses.propagation import frequencies, loo_log_kernel, one_hot
from graphloss.losses.sigma import LEAST_SIGMA
from graphloss.losses.solvers import absorb, paper_walk


class GLossResult(NamedTuple):
    """What `gloss` and `paper_loss` return."""

    loss: Tensor
    """0-d, attached to the embeddings; zero without anchors."""
    coverage: Tensor
    """0-d, detached: share of the labeled documents that are anchors."""
    anchors: Tensor
    """(n,) boolean: the documents in the mean."""
    log_p: Tensor
    """(n,) log-probability of an anchor's label, from the others' labels; 0 for all other documents."""


def gloss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    sigma: float | Tensor,
    alpha: float = 1.0,
    q: float = 0.0,
    k: int | None = None,
    class_weights: Tensor | None = None,
    sample_weight: Tensor | None = None,
    num_classes: int | None = None,
    memory: Boundary | None = None,
) -> GLossResult:
    """Leave-one-out G-Loss: each labeled document is predicted from all others.

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices, -1 for unlabeled: hidden nodes with alpha = 1, nodes without initial label mass with
            alpha < 1.
        sigma: bandwidth, see `graph.log_affinity`; at least `LEAST_SIGMA`.
        alpha: 1 for harmonic functions; below 1 the damping of label spreading.
        q: 0 for the negative log-likelihood; up to 1 the generalized cross-entropy (1 - p^q) / q of Zhang and
            Sabuncu 2018, bounded and so robust to wrong labels.
        k: nearest neighbors kept per document; None for the complete graph.
        class_weights: (C,) weight of each class in the mean.
        sample_weight: (n,) further weight of each document in the mean, for example `label_trust.LabelTrust`.
        num_classes: C, only to check the labels.
        memory: labeled documents of earlier batches, constants, see `memory_bank.Memory.boundary`. Edges between them
            are never computed, so alpha must be 1 and k None.

    Returns:
        `GLossResult`. Without anchors the loss is 0 with a live gradient.

    Raises:
        ValueError: shapes, dtypes or options that do not fit, with what was expected.

    Examples:
        >>> z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], requires_grad=True)
        >>> result = gloss(z, torch.tensor([0, 0, 1, -1]), sigma=0.5)
        >>> round(result.coverage.item(), 2)
        0.67
    """
    labels = check_batch(embeddings, labels)
    _classes(labels, num_classes, class_weights)
    check_sample_weight(sample_weight, len(labels))
    check_sigma(sigma)
    check_numbers(q=q, alpha=alpha)
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q must lie between 0 (log-likelihood) and 1 (absolute error), got {q}")
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must lie in (0, 1], got {alpha}; 1 is harmonic, below 1 is label spreading")
    check_memory_options(memory is not None, alpha, k)
    if memory is not None:
        _check_boundary(memory, embeddings, labels)
    with no_autocast(embeddings):
        # ---- 1. Unit length --------------------------------------------------------------------------------
        # Only the direction of an embedding counts, so rescaling the encoder's output does not change the loss.
        # All distances then lie in [0, 2], and one range of sigma suits every encoder.
        z = unit(embeddings)  # (n, d)
        is_labeled = labels >= 0  # (n,)
        labeled = is_labeled.nonzero()[:, 0]  # (l,)
        y = labels[labeled]

        # ---- 2. Similarity ---------------------------------------------------------------------------------
        # A Gaussian of the distance, in the log domain: at a small sigma the similarity itself would underflow.
        # Unlabeled documents are nodes as well, so labels can reach a document through them.
        logw = log_affinity(z, sigma, k)  # (n, n)

        # ---- 3. Which nodes can be anchors -----------------------------------------------------------------
        # If the graph connects a document with no other of its class, the probability of its class is 0.
        # The loss would be infinite without a useful gradient, so the document leaves the mean.
        local, _ = within_batch(labels)  # (n,)
        anchors = _reachable(logw.detach() if k is not None else None, local, alpha)[labeled]  # (l,)
        if memory is not None:
            anchors = anchors | memory.shown.any(dim=1)[y]  # (l,)
        if not bool(anchors.any()):
            return _zero_result(z, is_labeled)

        # ---- 4. Kernel -------------------------------------------------------------------------------------
        # K_ij weighs the label of j in the prediction of i, over all paths through hidden nodes.
        # Its diagonal is masked: with its own label a document would be predicted well by any embedding.
        ends = None if memory is None else log_mass(z, memory, sigma)  # (n, C), one column per class
        logk = loo_log_kernel(logw, local if ends is None else labels, alpha, ends)  # (l, l) or (l, l + C)

        # ---- 5. Share of the own class ---------------------------------------------------------------------
        # p_i is the part of row i of K that falls on documents of i's class.
        # It is a ratio, so rows of K need no normalization.
        columns = y if ends is None else torch.cat([y, torch.arange(ends.shape[1], device=y.device)])  # their classes
        log_p = torch.where(anchors, log_share(logk, y[:, None] == columns[None, :]), 0.0)  # (l,)
        each = -log_p if q == 0.0 else -torch.expm1(q * log_p) / q  # (l,)

        # ---- 6. Mean ---------------------------------------------------------------------------------------
        # A mean over the anchors keeps the scale of the loss independent of the size and the labels of a batch.
        # Class weights let rare classes count as much as frequent ones.
        own = None if sample_weight is None else sample_weight[labeled]  # (l,)
        loss = weighted_mean(each, y, anchors, class_weights, own)
        return GLossResult(
            loss,
            anchors.to(z.dtype).mean(),
            torch.zeros_like(is_labeled).index_copy(0, labeled, anchors),
            z.new_zeros(z.shape[0]).index_copy(0, labeled, log_p),
        )


def paper_loss(
    embeddings: Tensor,
    labels: Tensor,
    shown: Tensor,
    *,
    sigma: float | Tensor,
    num_classes: int | None = None,
    class_weights: Tensor | None = None,
    double_division: bool = False,
) -> GLossResult:
    """Return the published G-Loss for a mask of shown labels.

    It differs from `gloss` in three ways. Only hidden documents are anchors. The graph is normalized by rows, columns
    and rows again. The propagated probabilities go through one more softmax, which confines the loss to a band of width
    1 whose floor is log(1 + (C - 1) / e).

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices; -1 is a hidden node that has no target.
        shown: (n,) boolean, the labels that the graph may see.
        sigma: bandwidth, see `graph.log_affinity`; at least `LEAST_SIGMA`.
        num_classes: C; the largest label plus one when left out. It enters the softmax, so specify it for real batches.
        class_weights: (C,) weights of the cross-entropy.
        double_division: divide once more by the number of hidden targets, as the authors' combined training does.

    Returns:
        `GLossResult`; 0 with a live gradient where no label is shown or none is hidden.

    Raises:
        ValueError: shapes, dtypes or options that do not fit, with what was expected.
    """
    labels = check_batch(embeddings, labels)
    num_classes = _classes(labels, num_classes, class_weights)
    check_sigma(sigma)
    if shown.shape != labels.shape or shown.dtype != torch.bool:
        raise ValueError(
            f"shown must be a boolean mask of shape {tuple(labels.shape)}, got {shown.dtype} {tuple(shown.shape)}"
        )
    with no_autocast(embeddings):
        z = unit(embeddings)  # (n, d)
        shown = shown & (labels >= 0)
        anchors = ~shown & (labels >= 0)
        if not bool(shown.any() & anchors.any()):
            return _zero_result(z, labels >= 0)
        hidden = (~shown).nonzero()[:, 0]  # (u,)
        logw = log_affinity(z, sigma)  # (n, n)
        t, log_pi = paper_walk(logw, hidden)  # (u, n), (u,)
        local, present = within_batch(labels)  # (n,), the classes of the batch alone: the others have no mass
        y = one_hot(torch.where(shown, local, -1), present, z.dtype)  # (n, C')
        f_u = absorb(t[:, hidden], t @ y, log_pi / 2, frequencies(y))  # (u, C')
        if num_classes > present:  # each absent class is a logit of 0 in the softmax: together they are log(C - C')
            f_u = torch.cat([f_u, f_u.new_full((len(f_u), 1), math.log(num_classes - present))], dim=1)
        target = labels[hidden]  # (u,)
        log_p = functional.log_softmax(f_u, dim=1).gather(1, local[hidden].clamp_min(0)[:, None])[:, 0]  # F_U as logits
        log_p = torch.where(target >= 0, log_p, 0.0)
        loss = weighted_mean(-log_p, target, target >= 0, class_weights)
        if double_division:
            loss = loss / anchors.sum()
        coverage = anchors.sum() / (labels >= 0).sum()
        return GLossResult(loss, coverage.to(z.dtype), anchors, z.new_zeros(z.shape[0]).index_copy(0, hidden, log_p))


def check_sigma(sigma: Any) -> None:
    """Check that a bandwidth is finite and at least `LEAST_SIGMA`.

    Raises:
        TypeError: it is neither a number nor a 0-d tensor.
        ValueError: it is out of range; the message names it.
    """
    value = sigma.item() if isinstance(sigma, Tensor) and not sigma.ndim else sigma
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"sigma must be a number or a 0-d tensor, got {sigma!r:.60}; good: 0.1 to 0.5")
    if not LEAST_SIGMA <= value < math.inf:
        raise ValueError(
            f"sigma must be at least {LEAST_SIGMA}, got {value}; give a finite number, good are 0.1 to 0.5"
        )


def check_numbers(**options: Any) -> None:
    """Check that options of a loss are numbers; a TypeError names one that is none, or a truth value."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {value!r:.60}")


def check_memory_options(memory: bool, alpha: float, k: int | None) -> None:
    """Refuse a memory together with alpha below 1 or with k.

    Raises:
        ValueError: with the values that came.
    """
    if memory and (alpha != 1.0 or k is not None):
        raise ValueError(
            "a memory needs alpha = 1 and no k: damped spreading and nearest neighbors of either end would need the "
            f"edges between remembered documents; got alpha = {alpha}, k = {k}"
        )


def _check_boundary(memory: Boundary, embeddings: Tensor, labels: Tensor) -> None:
    classes, _, dimensions = memory.embeddings.shape
    if dimensions != embeddings.shape[1]:
        raise ValueError(f"the memory has {dimensions} dimensions, the embeddings {embeddings.shape[1]}")
    check_labels(labels, classes)


def check_batch(embeddings: Any, labels: Any) -> Tensor:
    """Check the types, shapes and dtypes of a batch.

    Args:
        embeddings: (n, d), of any floating type.
        labels: (n,) integers, -1 for unlabeled.

    Returns:
        The labels, int64.

    Raises:
        TypeError: one of them is not a tensor.
        ValueError: what was expected, and what came.
    """
    for name, value in (("embeddings", embeddings), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}; give torch.as_tensor({name})")
        if value.layout != torch.strided or value.is_meta:
            raise TypeError(f"{name} must be a dense tensor with values, got {value.layout} on {value.device}")
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f"embeddings must be floating point of shape (documents, dimensions), got {embeddings.dtype} "
            f"{tuple(embeddings.shape)}; pool the tokens first"
        )
    plain = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != embeddings.shape[:1] or not plain:
        raise ValueError(
            f"labels must be class indices of shape ({embeddings.shape[0]},), -1 for unlabeled, got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    labels = labels.long()
    if labels.numel() and int(labels.min()) < -1:
        raise ValueError(f"labels must be class indices from 0 on, or -1 for unlabeled; got {int(labels.min())}")
    return labels


def check_class_weights(weights: Any) -> None:
    """Check that class weights are None or a tensor (C,) of finite numbers of at least 0, see `_check_weights`."""
    fits = not isinstance(weights, Tensor) or weights.numel() > 0
    _check_weights("class_weights", weights, "(classes,)", fits, "; `balanced_class_weights` computes some")


def check_sample_weight(weight: Any, count: int) -> None:
    """The same of weights of documents, (count,)."""
    _check_weights("sample_weight", weight, f"({count},)", getattr(weight, "shape", None) == (count,))


def _check_weights(name: str, weights: Any, shape: str, fits: bool, remedy: str = ", one per document") -> None:
    """Raise TypeError for what is no floating point tensor, ValueError for another shape or a weight that is none."""
    if weights is None:
        return
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"{name} must be a floating point tensor {shape}, got {kind}; give torch.tensor(…)")
    if not fits or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(
            f"{name} must be finite numbers from 0 on of shape {shape}, got {tuple(weights.shape)} "
            f"{weights.tolist()!r:.60}{remedy}"
        )


def within_batch(labels: Tensor) -> tuple[Tensor, int]:
    """Number the classes of a batch from 0 on: time and memory then depend on their count, not on the largest label.

    Args:
        labels: (n,) class indices, -1 for unlabeled.

    Returns:
        The new labels (n,), -1 kept, and the number of classes.
    """
    labeled = labels >= 0
    present, inverse = torch.unique(labels[labeled], return_inverse=True)
    return torch.full_like(labels, -1).masked_scatter(labeled, inverse), len(present)


def _classes(labels: Tensor, num_classes: int | None, class_weights: Tensor | None) -> int:
    """C: `num_classes`, else the number of class weights, else the largest label plus one; checks all three."""
    check_class_weights(class_weights)
    high = int(labels.max()) if labels.numel() else -1
    if num_classes is None:
        num_classes = len(class_weights) if class_weights is not None else max(high + 1, 1)
    if high >= num_classes:
        raise ValueError(f"label {high} needs num_classes of at least {high + 1}, got {num_classes}")
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise ValueError(f"class_weights must have shape ({num_classes},), got {tuple(class_weights.shape)}")
    return num_classes


def _zero_result(z: Tensor, is_labeled: Tensor) -> GLossResult:
    """Zero with a live gradient, for a batch without anchors."""
    zero = (z * 0.0).sum()
    return GLossResult(zero, zero.detach(), torch.zeros_like(is_labeled), z.new_zeros(z.shape[0]))


def weighted_mean(
    each: Tensor, labels: Tensor, anchors: Tensor, class_weights: Tensor | None, sample_weight: Tensor | None = None
) -> Tensor:
    """Weighted mean over the anchors, as `cross_entropy` reduces: sum of weighted losses over the sum of weights."""
    weight = anchors.to(each.dtype)
    if class_weights is not None:
        largest = class_weights.max().clamp_min(torch.finfo(class_weights.dtype).tiny)  # so that no sum is infinite
        weight = weight * (class_weights / largest).to(each)[labels.clamp_min(0)]
    if sample_weight is not None and len(each):
        largest = sample_weight.max().clamp_min(torch.finfo(sample_weight.dtype).tiny)
        weight = weight * (sample_weight / largest).to(each)
    total = weight.sum()
    return (weight * each).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _reachable(logw: Tensor | None, labels: Tensor, alpha: float) -> Tensor:
    """(n,) boolean: labeled documents whose class has another labeled document that the graph connects with them.

    `logw` None is the complete graph. In a sparse graph, spreading passes through every node; the harmonic walk ends at
    the first labeled document, so it passes through unlabeled ones only.
    """
    classes = int(labels.max()) + 1 if labels.numel() else 0
    y = one_hot(labels, max(classes, 1), torch.float32)  # (n, C)
    if logw is None:
        return (y * (y.sum(dim=0) >= 2)).any(dim=1)
    edges = logw > MASKED / 2  # (n, n)
    labeled = labels >= 0
    if alpha < 1.0:
        part = components(edges)  # (n,)
        count = torch.zeros_like(y).index_add_(0, part, y)  # (n, C), one row per component
        return (y * (count[part] >= 2)).any(dim=1)
    direct = edges.to(y.dtype) @ y > 0  # (n, C)
    part = components(edges & ~labeled[:, None] & ~labeled[None, :])  # (n,) of the hidden nodes
    touches = torch.zeros_like(edges).T.contiguous()  # (components, n): labeled nodes beside each hidden component
    touches = touches.float().index_add_(0, part, (edges & ~labeled[:, None] & labeled[None, :]).float()) > 0
    pairs = (touches.float() @ y >= 2).float()  # (components, C): touches two labeled nodes of the class
    through_hidden = touches.float().T @ pairs > 0  # (n, C)
    return (y * (direct | through_hidden)).any(dim=1)
