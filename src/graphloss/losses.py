"""G-Loss: hide labels, let the others flow over the graph of the batch, ask that the hidden ones come out right.

Two modes (letters as in `graph` and `propagation`; Sharma, Agarwal, Kumar, arXiv 2604.25853)::

    loo    p_i = sum_{j != i, y_j = y_i} K_ij / sum_{j != i} K_ij      every labelled document asked, nothing drawn
           loss = mean_i w(y_i) (1 - p_i^q) / q,  -log p_i for q = 0
    paper  F_U = (I - T_UU)^-1 T_UL Y_L, T = W with rows, columns, and rows again normalised (their section 3)
           loss = class-weighted cross-entropy of F_U used as logits

What a batch needs: at least two documents of some class. A document that is the only one of its class cannot be
predicted by any graph; it leaves the mean, and `coverage` says which share of the labelled documents stayed.
With alpha = 1 and no unlabelled document, `loo` is exactly NCA at temperature sigma squared.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphloss import graph, propagation
from graphloss.graph import MASKED, exact, log_affinity, log_share, unit, working

AUTO_SIGMA = 0.3
"""What `sigma="auto"` stands for."""

SIGMAS = ("auto", *graph.RULES, "learned")


class GLossResult(NamedTuple):
    """What `gloss` and `paper_loss` return."""

    loss: Tensor
    """0-d, attached to the embeddings; zero where nothing could be asked."""
    coverage: Tensor
    """0-d, detached: share of the labelled documents that were asked."""
    asked: Tensor
    """(n,) boolean: the documents in the mean."""
    log_p: Tensor
    """(n,) log-probability of the own label, from the others' labels; 0 where not asked."""


class CombinedResult(NamedTuple):
    """What `Combined` returns; all 0-d, only `loss` attached."""

    loss: Tensor
    ce: Tensor
    graph: Tensor
    coverage: Tensor


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Class weights n / (C n_c) of the labelled documents, float32 (C,); a class that is absent has weight 0."""
    count = torch.bincount(labels[labels >= 0], minlength=num_classes).float()  # (C,)
    if count.numel() > num_classes:
        raise ValueError(f"labels go up to {count.numel() - 1}, but num_classes is {num_classes}")
    return torch.where(count > 0, count.sum() / (num_classes * count.clamp_min(1)), torch.zeros_like(count))


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
) -> GLossResult:
    """Leave-one-out G-Loss: each labelled document is predicted from all others.

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices, -1 for unlabelled: with alpha = 1 hidden nodes that carry labels on, with alpha < 1
            nodes that start without label mass.
        sigma: bandwidth, see `graph.log_affinity`.
        alpha: 1 for harmonic functions; below 1 label spreading with that share flowing on.
        q: 0 for the negative log-likelihood; up to 1 the generalised cross-entropy (1 - p^q) / q of Zhang and
            Sabuncu 2018, bounded and so robust to wrong labels.
        k: nearest neighbours kept per document; None for the complete graph.
        class_weights: (C,) weight of each class in the mean.
        num_classes: C, only to check the labels against.

    Returns:
        `GLossResult`. The loss is 0 with a live gradient where no document can be asked.

    Raises:
        ValueError: shapes, dtypes or options that do not fit, with what was expected.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], requires_grad=True)
        >>> result = gloss(z, torch.tensor([0, 0, 1, -1]), sigma=0.5)
        >>> round(result.coverage.item(), 2)
        0.67
    """
    _check(embeddings, labels, num_classes, class_weights)
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q must lie between 0 (log-likelihood) and 1 (absolute error), got {q}")
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must lie in (0, 1], got {alpha}; 1 is harmonic, below 1 is label spreading")
    with exact(embeddings):
        z = unit(embeddings)  # (n, d)
        seen = labels >= 0  # (n,)
        given = seen.nonzero()[:, 0]  # (l,)
        y = labels[given]
        logw = log_affinity(z, sigma, k)  # (n, n)
        asked = _reachable(logw.detach() if k is not None else None, labels, alpha)[given]  # (l,)
        if not bool(asked.any()):
            return _nothing(z, seen)
        logk = propagation.loo_log_kernel(logw, labels, alpha)  # (l, l)
        same = y[:, None] == y[None, :]
        log_p = log_share(logk, same)  # (l,)
        log_p = torch.where(asked, log_p, 0.0)
        each = -log_p if q == 0.0 else -torch.expm1(q * log_p) / q  # (l,)
        loss = _mean(each, y, asked, class_weights)
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

    It differs from `gloss` in three ways: only hidden documents are asked, the graph is normalised by rows, columns and
    rows again, and the propagated probabilities go into a softmax once more, which confines the loss to a band of
    width 1 whose floor is log(1 + (C - 1) / e).

    Args:
        embeddings: (n, d), any floating dtype, any length of rows.
        labels: (n,) class indices; -1 is a hidden node that has no target.
        shown: (n,) boolean, the labels that the graph may see.
        sigma: bandwidth, see `graph.log_affinity`.
        num_classes: C; the largest label plus one when left out. It enters the softmax, so give it for real batches.
        class_weights: (C,) weights of the cross-entropy.
        double_division: divide once more by the number of hidden targets, as the authors' combined training does.

    Returns:
        `GLossResult`; 0 with a live gradient where no label is shown or none is hidden.
    """
    num_classes = _check(embeddings, labels, num_classes, class_weights)
    if shown.shape != labels.shape or shown.dtype != torch.bool:
        raise ValueError(
            f"shown must be a boolean mask of shape {tuple(labels.shape)}, got {shown.dtype} {tuple(shown.shape)}"
        )
    with exact(embeddings):
        z = unit(embeddings)  # (n, d)
        shown = shown & (labels >= 0)
        asked = ~shown & (labels >= 0)
        if not bool(shown.any() & asked.any()):
            return _nothing(z, labels >= 0)
        hidden = (~shown).nonzero()[:, 0]  # (u,)
        logw = log_affinity(z, sigma)  # (n, n)
        t, log_pi = propagation.paper_walk(logw, hidden)  # (u, n), (u,)
        y = propagation.one_hot(torch.where(shown, labels, -1), num_classes, z.dtype)  # (n, C)
        f_u = propagation.absorb(t[:, hidden], t @ y, log_pi / 2, propagation.frequencies(y))  # (u, C)
        target = labels[hidden]  # (u,)
        log_p = functional.log_softmax(f_u, dim=1).gather(1, target.clamp_min(0)[:, None])[:, 0]  # F_U as logits
        log_p = torch.where(target >= 0, log_p, 0.0)
        loss = _mean(-log_p, target, target >= 0, class_weights)
        if double_division:
            loss = loss / asked.sum()
        coverage = asked.sum() / (labels >= 0).sum()
        return GLossResult(loss, coverage.to(z.dtype), asked, z.new_zeros(z.shape[0]).index_copy(0, hidden, log_p))


def _check(embeddings: Tensor, labels: Tensor, num_classes: int | None, class_weights: Tensor | None) -> int:
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f"embeddings must be floating point of shape (documents, dimensions), got {embeddings.dtype} "
            f"{tuple(embeddings.shape)}; pool the tokens first"
        )
    if labels.shape != embeddings.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be class indices of shape ({embeddings.shape[0]},), -1 for unlabelled, got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    low, high = (int(labels.min()), int(labels.max())) if labels.numel() else (-1, -1)
    if low < -1:
        raise ValueError(f"labels must be class indices from 0 on, or -1 for unlabelled; got {low}")
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


def _mean(each: Tensor, labels: Tensor, asked: Tensor, class_weights: Tensor | None) -> Tensor:
    """Weighted mean over the asked documents, as `cross_entropy` reduces: sum of weighted losses over the weights."""
    weight = asked.to(each.dtype)
    if class_weights is not None:
        weight = weight * class_weights.to(each)[labels.clamp_min(0)]
    total = weight.sum()
    return (weight * each).sum() / torch.where(total > 0, total, torch.ones_like(total))


def _reachable(logw: Tensor | None, labels: Tensor, alpha: float) -> Tensor:
    """(n,) boolean: labelled documents whose class has another labelled document that the graph connects with them.

    `logw` None stands for the complete graph. In a sparse one, spreading walks through every node; the harmonic walk of
    a document ends at the first labelled one it meets, so it passes through unlabelled documents only.
    """
    classes = int(labels.max()) + 1 if labels.numel() else 0
    y = propagation.one_hot(labels, max(classes, 1), torch.float32)  # (n, C)
    if logw is None:
        return (y * (y.sum(dim=0) >= 2)).any(dim=1)
    edges = logw > MASKED / 2  # (n, n)
    seen = labels >= 0
    if alpha < 1.0:
        part = graph.components(edges)  # (n,)
        count = torch.zeros_like(y).index_add_(0, part, y)  # (n, C), a row a component
        return (y * (count[part] >= 2)).any(dim=1)
    direct = edges.to(y.dtype) @ y > 0  # (n, C)
    part = graph.components(edges & ~seen[:, None] & ~seen[None, :])  # (n,) of the hidden nodes
    touches = torch.zeros_like(edges).T.contiguous()  # (components, n): shown nodes beside each hidden component
    touches = touches.float().index_add_(0, part, (edges & ~seen[:, None] & seen[None, :]).float()) > 0
    shores = (touches.float() @ y >= 2).float()  # (components, C): another one of the class besides oneself
    over = touches.float().T @ shores > 0  # (n, C)
    return (y * (direct | over)).any(dim=1)


class GLoss(nn.Module):
    """G-Loss as a module: keeps the bandwidth, the class weights and the random split's generator.

    Unlike cross-entropy it needs no head, unlike pair and triplet losses no mining; unlike SupCon it can use unlabelled
    documents (label -1). A batch needs two documents of a class, see the module's docstring.

    Args:
        mode: "loo" asks every labelled document; "paper" draws a random split of the labels, as published.
        sigma: a number; "auto"; a rule of `graph.bandwidth`, computed by `calibrate` or else from the first batch
            ("perplexity": from each batch, per document); "learned", trained with the encoder.
        alpha: see `gloss`; loo only.
        q: see `gloss`; loo only.
        k: see `gloss`; loo only.
        gamma: share of the labels that is shown; paper only.
        perplexity: for the rule of that name.
        class_weights: (C,), for example `balanced_class_weights`.
        num_classes: C; give it in paper mode, where it enters the loss.
        seed: of the random split; paper only. Drawn on the CPU, so the same on every device.
        double_division: see `paper_loss`; paper only.

    Example:
        >>> loss = GLoss(sigma=0.3)
        >>> z = torch.randn(8, 16, requires_grad=True)
        >>> loss(z, torch.arange(8) % 2).backward()
        >>> float(loss.coverage)
        1.0
    """

    sigma_value: Tensor
    calibrated: Tensor
    class_weights: Tensor | None
    rng_state: Tensor

    def __init__(
        self,
        *,
        mode: Literal["loo", "paper"] = "loo",
        sigma: float | str = "auto",
        alpha: float = 1.0,
        q: float = 0.0,
        k: int | None = None,
        gamma: float = 0.7,
        perplexity: float = 15.0,
        class_weights: Tensor | None = None,
        num_classes: int | None = None,
        seed: int = 0,
        double_division: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("loo", "paper"):
            raise ValueError(f'mode must be "loo" or "paper", got {mode!r}')
        if isinstance(sigma, str) and sigma not in SIGMAS:
            raise ValueError(f"sigma must be a positive number or one of {', '.join(SIGMAS)}; got {sigma!r}")
        if not isinstance(sigma, str) and not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}; good values lie between 0.1 and 0.5")
        if not 0.0 < gamma < 1.0:
            raise ValueError(f"gamma must lie between 0 and 1, got {gamma}; it is the share of labels shown")
        if mode == "paper" and (alpha != 1.0 or q != 0.0 or k is not None):
            raise ValueError('alpha, q and k belong to mode "loo"; the published loss has none of them')
        if mode == "loo" and double_division:
            raise ValueError('double_division belongs to mode "paper"')
        self.mode, self.sigma, self.alpha, self.q, self.k = mode, sigma, alpha, q, k
        self.gamma, self.perplexity, self.num_classes, self.seed = gamma, perplexity, num_classes, seed
        self.double_division = double_division
        start = AUTO_SIGMA if isinstance(sigma, str) else float(sigma)
        self.register_buffer("sigma_value", torch.tensor(start))
        self.register_buffer("calibrated", torch.tensor(not isinstance(sigma, str) or sigma not in graph.RULES))
        self.register_buffer("class_weights", class_weights)
        # a uint8 tensor, which safetensors keeps: an exact resume needs it
        self.register_buffer("rng_state", torch.Generator().manual_seed(seed).get_state())
        self.log_sigma = nn.Parameter(torch.tensor(start).log()) if sigma == "learned" else None
        self.coverage = torch.tensor(0.0)

    @property
    def bandwidth(self) -> float:
        """The sigma in use; for "perplexity" the median over the documents of the last batch."""
        return float(self.sigma_value if self.log_sigma is None else self.log_sigma.detach().exp())

    @torch.no_grad()
    def calibrate(self, embeddings: Tensor, labels: Tensor) -> float:
        """Set sigma by the rule from a sample, before training; nothing happens for a number, "auto" and "learned".

        Args:
            embeddings: (n, d) of the encoder as it is now.
            labels: (n,), -1 for unlabelled.

        Returns:
            The bandwidth in use afterwards.
        """
        if isinstance(self.sigma, str) and self.sigma in graph.RULES:
            self._by_rule(unit(embeddings), labels)
        return self.bandwidth

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, 0-d; `coverage` holds the share of labelled documents that were asked.

        Args:
            embeddings: (n, d).
            labels: (n,) class indices, -1 for unlabelled.
        """
        sigma = self._bandwidth_for(embeddings, labels)
        if self.mode == "loo":
            result = gloss(
                embeddings,
                labels,
                sigma=sigma,
                alpha=self.alpha,
                q=self.q,
                k=self.k,
                class_weights=self.class_weights,
                num_classes=self.num_classes,
            )
        else:
            result = paper_loss(
                embeddings,
                labels,
                self._draw(labels),
                sigma=sigma,
                num_classes=self.num_classes,
                class_weights=self.class_weights,
                double_division=self.double_division,
            )
        self.coverage = result.coverage
        return result.loss

    def extra_repr(self) -> str:
        """Name the mode and the bandwidth in the module's repr."""
        return f"mode={self.mode!r}, sigma={self.sigma!r}"

    def _bandwidth_for(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.log_sigma is not None:
            return self.log_sigma.exp()
        if self.sigma == "perplexity":
            return self._by_rule(unit(embeddings.detach()), labels)
        if not bool(self.calibrated):
            self._by_rule(unit(embeddings.detach()), labels)
        return self.sigma_value

    def _by_rule(self, z: Tensor, labels: Tensor) -> Tensor:
        sigma = graph.bandwidth(z, labels, str(self.sigma), self.perplexity)
        if sigma.numel():
            self.sigma_value.copy_(sigma.median())
            self.calibrated.fill_(True)
        return sigma

    def _draw(self, labels: Tensor) -> Tensor:
        """Show a random share gamma of the labels, at least one, and hide at least one.

        In evaluation the stream starts afresh and is not kept, so that validating never changes the training.
        """
        generator = torch.Generator()
        if self.training:
            generator.set_state(self.rng_state.cpu())
        else:
            generator.manual_seed(self.seed)
        given = (labels >= 0).nonzero()[:, 0].cpu()  # (l,)
        order = given[torch.randperm(given.numel(), generator=generator)]
        if self.training:
            self.rng_state.copy_(generator.get_state())
        count = min(max(int(self.gamma * given.numel()), 1), max(given.numel() - 1, 0))
        shown = torch.zeros(labels.shape, dtype=torch.bool)
        shown[order[:count]] = True
        return shown.to(labels.device)


class Combined(nn.Module):
    """(1 - weight) * cross-entropy + weight * graph loss, from one encoder pass, both means over documents.

    Args:
        graph_loss: a module (embeddings, labels) -> scalar such as `GLoss`; None for cross-entropy alone.
        weight: the share lambda of the graph loss.
        class_weights: (C,) weights of the cross-entropy; the graph loss has its own.
    """

    class_weights: Tensor | None

    def __init__(self, graph_loss: nn.Module | None, weight: float = 0.5, class_weights: Tensor | None = None) -> None:
        super().__init__()
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight must lie between 0 (cross-entropy alone) and 1 (graph loss alone), got {weight}")
        self.graph_loss, self.weight = graph_loss, 0.0 if graph_loss is None else weight
        self.register_buffer("class_weights", class_weights)

    def forward(self, embeddings: Tensor, logits: Tensor, labels: Tensor) -> CombinedResult:
        """Both losses of a batch.

        Args:
            embeddings: (n, d).
            logits: (n, C) of a head on the same embeddings.
            labels: (n,), -1 for unlabelled, which the cross-entropy passes over.
        """
        with exact(logits):
            scores = working(logits)
            if bool((labels >= 0).any()):
                log_p = functional.log_softmax(scores, dim=1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
                ce = _mean(-log_p, labels, labels >= 0, self.class_weights)
            else:
                ce = scores.sum() * 0.0
            if self.graph_loss is None:
                part, coverage = ce.new_zeros(()), ce.new_zeros(())
                loss = ce
            else:
                part = self.graph_loss(embeddings, labels)
                coverage = torch.as_tensor(getattr(self.graph_loss, "coverage", 1.0))
                loss = (1.0 - self.weight) * ce + self.weight * part
        return CombinedResult(loss, ce.detach(), part.detach(), coverage)


LOSSES: Mapping[str, type[nn.Module] | None] = MappingProxyType({"gloss": GLoss, "ce": None})
"""Graph losses by name; None stands for cross-entropy without one."""
