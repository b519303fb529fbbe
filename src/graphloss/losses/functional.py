"""G-Loss: hide labels, let the others flow over the graph of the batch, ask that the hidden ones come out right.

Two modes (letters as in `graph` and `propagation`; Sharma, Agarwal, Kumar, arXiv 2604.25853)::

    loo    p_i = sum_{j != i, y_j = y_i} K_ij / sum_{j != i} K_ij      every labeled document asked, nothing drawn
           loss = mean_i w(y_i) (1 - p_i^q) / q,  -log p_i for q = 0
           with a memory its documents are ends of the walk like the labeled ones of the batch
    paper  F_U = (I - T_UU)^-1 T_UL Y_L, T = W with rows, columns, and rows again normalized (their section 3)
           loss = class-weighted cross-entropy of F_U used as logits

What a batch needs: at least two documents of some class. A document that is the only one of its class cannot be
predicted by any graph; it leaves the mean, and `coverage` says which share of the labeled documents stayed.
With alpha = 1 and no unlabeled document, `loo` is exactly NCA at temperature sigma squared.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from graphloss.losses.graph import MASKED, components, log_affinity, log_share, no_autocast, unit
from graphloss.losses.memory_bank import Boundary, log_mass
from graphloss.losses.propagation import frequencies, loo_log_kernel, one_hot
from graphloss.losses.sigma import LEAST_SIGMA
from graphloss.losses.solvers import absorb, paper_walk


class GLossResult(NamedTuple):
    """What `gloss` and `paper_loss` return."""

    loss: Tensor
    """0-d, attached to the embeddings; zero where nothing could be asked."""
    coverage: Tensor
    """0-d, detached: share of the labeled documents that were asked."""
    asked: Tensor
    """(n,) boolean: the documents in the mean."""
    log_p: Tensor
    """(n,) log-probability of the own label, from the others' labels; 0 where not asked."""


def gloss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    sigma: float | Tensor,
    alpha: float = 1.0,
    q: float = 0.0,
    k: int | None = None,
    class_weights: Tensor | None = None,
    num_classes: int | None = None,
    memory: Boundary | None = None,
) -> GLossResult:
    """Leave-one-out G-Loss: each labeled document is predicted from all others.

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices, -1 for unlabeled: with alpha = 1 hidden nodes that carry labels on, with alpha < 1
            nodes that start without label mass.
        sigma: bandwidth, see `graph.log_affinity`; at least `LEAST_SIGMA`.
        alpha: 1 for harmonic functions; below 1 label spreading with that share flowing on.
        q: 0 for the negative log-likelihood; up to 1 the generalized cross-entropy (1 - p^q) / q of Zhang and
            Sabuncu 2018, bounded and so robust to wrong labels.
        k: nearest neighbors kept per document; None for the complete graph.
        class_weights: (C,) weight of each class in the mean.
        num_classes: C, only to check the labels against.
        memory: documents of earlier batches, see `memory.Memory.boundary`: constants whose label is shown. Needs
            alpha = 1 and every edge, for their edges among one another are never computed.

    Returns:
        `GLossResult`. The loss is 0 with a live gradient where no document can be asked.

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
    check_sigma(sigma)
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q must lie between 0 (log-likelihood) and 1 (absolute error), got {q}")
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must lie in (0, 1], got {alpha}; 1 is harmonic, below 1 is label spreading")
    check_memory_options(memory is not None, alpha, k)
    if memory is not None:
        _check_boundary(memory, embeddings, labels)
    with no_autocast(embeddings):
        z = unit(embeddings)  # (n, d)
        seen = labels >= 0  # (n,)
        given = seen.nonzero()[:, 0]  # (l,)
        y = labels[given]
        logw = log_affinity(z, sigma, k)  # (n, n)
        local, _ = within_batch(labels)  # (n,)
        asked = _reachable(logw.detach() if k is not None else None, local, alpha)[given]  # (l,)
        if memory is not None:
            asked = asked | memory.shown.any(dim=1)[y]  # (l,)
        if not bool(asked.any()):
            return _nothing(z, seen)
        ends = None if memory is None else log_mass(z, memory, sigma)  # (n, C), a column a class
        logk = loo_log_kernel(logw, local if ends is None else labels, alpha, ends)  # (l, l) or (l, l + C)
        kind = y if ends is None else torch.cat([y, torch.arange(ends.shape[1], device=y.device)])  # of each column
        same = y[:, None] == kind[None, :]
        log_p = log_share(logk, same)  # (l,)
        log_p = torch.where(asked, log_p, 0.0)
        each = -log_p if q == 0.0 else -torch.expm1(q * log_p) / q  # (l,)
        loss = weighted_mean(each, y, asked, class_weights)
        return GLossResult(
            loss,
            asked.to(z.dtype).mean(),
            torch.zeros_like(seen).index_copy(0, given, asked),
            z.new_zeros(z.shape[0]).index_copy(0, given, log_p),
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
    """Return the published G-Loss, with the mask of shown labels given from outside.

    It differs from `gloss` in three ways: only hidden documents are asked, the graph is normalized by rows, columns and
    rows again, and the propagated probabilities go into a softmax once more, which confines the loss to a band of
    width 1 whose floor is log(1 + (C - 1) / e).

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices; -1 is a hidden node that has no target.
        shown: (n,) boolean, the labels that the graph may see.
        sigma: bandwidth, see `graph.log_affinity`; at least `LEAST_SIGMA`.
        num_classes: C; the largest label plus one when left out. It enters the softmax, so give it for real batches.
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
        asked = ~shown & (labels >= 0)
        if not bool(shown.any() & asked.any()):
            return _nothing(z, labels >= 0)
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
            loss = loss / asked.sum()
        coverage = asked.sum() / (labels >= 0).sum()
        return GLossResult(loss, coverage.to(z.dtype), asked, z.new_zeros(z.shape[0]).index_copy(0, hidden, log_p))


def check_sigma(sigma: Any) -> None:
    """Refuse a bandwidth, or a document's, that is below `LEAST_SIGMA` or not a finite number.

    Raises:
        TypeError: it is no number at all.
        ValueError: with the bandwidth that came.
    """
    if isinstance(sigma, bool) or not isinstance(sigma, int | float | Tensor):
        raise TypeError(f"sigma must be a number or a tensor of numbers, got {sigma!r:.60}; good: 0.1 to 0.5")
    if isinstance(sigma, Tensor):
        if bool(((sigma >= LEAST_SIGMA) & sigma.isfinite()).all()):
            return
        sigma = float(sigma.detach()[~((sigma >= LEAST_SIGMA) & sigma.isfinite())].reshape(-1)[0])
    if not LEAST_SIGMA <= sigma < math.inf:
        raise ValueError(
            f"sigma must be at least {LEAST_SIGMA}, got {sigma}; give a finite number, good are 0.1 to 0.5"
        )


def check_memory_options(memory: bool, alpha: float, k: int | None) -> None:
    """Refuse what a memory does not go with.

    Raises:
        ValueError: with what to give instead.
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
    if labels.numel() and int(labels.max()) >= classes:
        raise ValueError(f"label {int(labels.max())} has no ring in a memory of {classes} classes")


def check_batch(embeddings: Any, labels: Any) -> Tensor:
    """Refuse what no loss can read.

    Args:
        embeddings: (n, d), of any floating type.
        labels: (n,) integers, -1 for unlabeled.

    Returns:
        The labels, int64.

    Raises:
        TypeError: one of them is no tensor.
        ValueError: what was expected, and what came.
    """
    for name, value in (("embeddings", embeddings), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}; give torch.as_tensor({name})")
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
    checked: Tensor = labels
    return checked


def check_class_weights(weights: Any) -> None:
    """Refuse weights of classes that are no tensor (C,) of finite numbers from 0 on; None are none.

    Raises:
        TypeError: they are no tensor of floating point numbers.
        ValueError: what was expected, and what came.
    """
    if weights is None:
        return
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"class_weights must be a floating point tensor (classes,), got {kind}; give torch.tensor(…)")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError(
            f"class_weights must be finite numbers from 0 on of shape (classes,), got {tuple(weights.shape)} "
            f"{weights.tolist()!r:.60}; `balanced_class_weights` computes some"
        )


def within_batch(labels: Tensor) -> tuple[Tensor, int]:
    """Number the classes of a batch from 0 on, so that time and memory follow their count and not the largest label.

    Args:
        labels: (n,) from -1 on.

    Returns:
        (n,) in the same order, -1 kept, and how many classes there are.
    """
    seen = labels >= 0
    present, inverse = torch.unique(labels[seen], return_inverse=True)
    return torch.full_like(labels, -1).masked_scatter(seen, inverse), len(present)


def _classes(labels: Tensor, num_classes: int | None, class_weights: Tensor | None) -> int:
    """C of a batch that can be read, as given or as the weights or the labels say."""
    check_class_weights(class_weights)
    high = int(labels.max()) if labels.numel() else -1
    if num_classes is None:
        num_classes = len(class_weights) if class_weights is not None else max(high + 1, 1)
    if high >= num_classes:
        raise ValueError(f"label {high} needs num_classes of at least {high + 1}, got {num_classes}")
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise ValueError(f"class_weights must have shape ({num_classes},), got {tuple(class_weights.shape)}")
    return num_classes


def _nothing(z: Tensor, seen: Tensor) -> GLossResult:
    """Zero with a live gradient: nobody could be asked."""
    zero = z.sum() * 0.0
    return GLossResult(zero, zero.detach(), torch.zeros_like(seen), z.new_zeros(z.shape[0]))


def weighted_mean(each: Tensor, labels: Tensor, asked: Tensor, class_weights: Tensor | None) -> Tensor:
    """Weighted mean over the asked documents, as `cross_entropy` reduces: sum of weighted losses over the weights."""
    weight = asked.to(each.dtype)
    if class_weights is not None:
        weight = weight * class_weights.to(each)[labels.clamp_min(0)]
    total = weight.sum()
    return (weight * each).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _reachable(logw: Tensor | None, labels: Tensor, alpha: float) -> Tensor:
    """(n,) boolean: labeled documents whose class has another labeled document that the graph connects with them.

    `logw` None stands for the complete graph. In a sparse one, spreading walks through every node; the harmonic walk of
    a document ends at the first labeled one it meets, so it passes through unlabeled documents only.
    """
    classes = int(labels.max()) + 1 if labels.numel() else 0
    y = one_hot(labels, max(classes, 1), torch.float32)  # (n, C)
    if logw is None:
        return (y * (y.sum(dim=0) >= 2)).any(dim=1)
    edges = logw > MASKED / 2  # (n, n)
    seen = labels >= 0
    if alpha < 1.0:
        part = components(edges)  # (n,)
        count = torch.zeros_like(y).index_add_(0, part, y)  # (n, C), a row a component
        return (y * (count[part] >= 2)).any(dim=1)
    direct = edges.to(y.dtype) @ y > 0  # (n, C)
    part = components(edges & ~seen[:, None] & ~seen[None, :])  # (n,) of the hidden nodes
    touches = torch.zeros_like(edges).T.contiguous()  # (components, n): shown nodes beside each hidden component
    touches = touches.float().index_add_(0, part, (edges & ~seen[:, None] & seen[None, :]).float()) > 0
    shores = (touches.float() @ y >= 2).float()  # (components, C): another one of the class besides oneself
    over = touches.float().T @ shores > 0  # (n, C)
    return (y * (direct | over)).any(dim=1)
