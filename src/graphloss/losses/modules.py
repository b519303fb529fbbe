"""The losses as modules: `GLoss`, and `Combined` with cross-entropy.

The formulas are the pure functions of `functional`. A module holds what a training keeps: the bandwidth, the class
weights, and the random state of paper mode.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphloss.losses.functional import (
    check_batch,
    check_class_weights,
    check_memory_options,
    check_numbers,
    check_sample_weight,
    check_sigma,
    gloss,
    paper_loss,
    weighted_mean,
)
from graphloss.losses.graph import no_autocast, unit, working
from graphloss.losses.memory_bank import Memory
from graphloss.losses.sigma import AUTO_SIGMA, LEAST_SIGMA, RULES, SIGMAS, bandwidth


class CombinedResult(NamedTuple):
    """What `Combined` returns; all 0-d, only `loss` attached."""

    loss: Tensor
    ce: Tensor
    graph: Tensor
    coverage: Tensor


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Class weights n / (C n_c) of the labeled documents, float32 (C,); a class that is absent has weight 0."""
    if labels.numel() and int(labels.max()) >= num_classes:
        raise ValueError(f"labels go up to {int(labels.max())}, but num_classes is {num_classes}")
    count = torch.bincount(labels[labels >= 0], minlength=num_classes).float()  # (C,)
    return torch.where(count > 0, count.sum() / (num_classes * count.clamp_min(1)), torch.zeros_like(count))


class GLoss(nn.Module):
    """G-Loss as a module: keeps the bandwidth, the class weights and the random split's generator.

    Unlike cross-entropy it needs no head, unlike pair and triplet losses no mining; unlike SupCon it can use unlabeled
    documents (label -1). A batch needs two documents of a class, see `functional`.

    Args:
        mode: "loo" predicts every labeled document; "paper" draws a random split of the labels, as published.
        sigma: a number, at least `LEAST_SIGMA`; "auto"; a rule of `sigma.bandwidth`, computed by `calibrate` or else
            from the first batch; "learned", trained with the encoder and never below `LEAST_SIGMA`.
        alpha: see `gloss`; loo only.
        q: see `gloss`; loo only.
        k: see `gloss`; loo only.
        gamma: share of the labels that is shown; paper only.
        class_weights: (C,), for example `balanced_class_weights`.
        num_classes: C; specify it in paper mode, where it enters the loss.
        seed: of the random split, drawn on the CPU, so the same on every device; paper only.
        double_division: see `paper_loss`; paper only.
        memory: documents of earlier batches that are in the graph too, see `Memory`; in training mode each batch is
            added to it. `forward` then needs the number of each document. loo only.

    Examples:
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
        class_weights: Tensor | None = None,
        num_classes: int | None = None,
        seed: int = 0,
        double_division: bool = False,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("loo", "paper"):
            raise ValueError(f'mode must be "loo" or "paper", got {mode!r}')
        if isinstance(sigma, str) and sigma not in SIGMAS:
            raise ValueError(f"sigma must be a positive number or one of {', '.join(SIGMAS)}; got {sigma!r}")
        if not isinstance(sigma, str):
            check_sigma(sigma)
            if getattr(sigma, "requires_grad", False):
                raise ValueError('sigma must be a number, got a tensor that needs a gradient; "learned" learns it')
        check_numbers(alpha=alpha, q=q, gamma=gamma)
        if not 0.0 < gamma < 1.0:
            raise ValueError(f"gamma must lie between 0 and 1, got {gamma}; it is the share of labels shown")
        if mode == "paper" and (alpha != 1.0 or q != 0.0 or k is not None):
            raise ValueError('alpha, q and k belong to mode "loo"; the published loss has none of them')
        if mode == "loo" and double_division:
            raise ValueError('double_division belongs to mode "paper"')
        if mode == "paper" and memory is not None:
            raise ValueError('a memory belongs to mode "loo"; the published loss has none')
        if not isinstance(memory, Memory | None):
            raise TypeError(f"memory must be a Memory, got {memory!r:.60}; give Memory(...), or None")
        check_memory_options(memory is not None, alpha, k)
        check_class_weights(class_weights)
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise ValueError(f"k must be a whole number of at least 1 neighbor per document, or None, got {k!r}")
        self.mode, self.sigma, self.alpha, self.q, self.k = mode, sigma, alpha, q, k
        self.gamma, self.num_classes, self.seed = gamma, num_classes, seed
        self.double_division, self.memory = double_division, memory
        start = AUTO_SIGMA if isinstance(sigma, str) else float(sigma)
        self.register_buffer("sigma_value", torch.tensor(start))
        self.register_buffer("calibrated", torch.tensor(not isinstance(sigma, str) or sigma not in RULES))
        self.register_buffer("class_weights", class_weights)
        # uint8, which safetensors stores: an exact resume needs it
        self.register_buffer("rng_state", torch.Generator().manual_seed(seed).get_state())
        self.log_sigma = nn.Parameter(torch.tensor(start).log()) if sigma == "learned" else None
        self.coverage = torch.tensor(0.0)

    @property
    def bandwidth(self) -> float:
        """The sigma in use."""
        learned = self._learned()
        return float(self.sigma_value if learned is None else learned.detach())

    @torch.no_grad()
    def calibrate(self, embeddings: Tensor, labels: Tensor) -> float:
        """Set sigma by its rule from a sample, before training; without effect for a number, "auto" and "learned".

        Args:
            embeddings: (n, d) of the current encoder.
            labels: (n,), -1 for unlabeled.

        Returns:
            The bandwidth in use.
        """
        if isinstance(self.sigma, str) and self.sigma in RULES:
            self._by_rule(unit(embeddings), labels)
        return self.bandwidth

    def forward(
        self, embeddings: Tensor, labels: Tensor, documents: Tensor | None = None, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch, 0-d; sets `coverage`, the share of labeled documents that are anchors.

        Args:
            embeddings: (n, d).
            labels: (n,) class indices, -1 for unlabeled.
            documents: (n,) number of each document in the corpus, `memory_bank.UNKNOWN` (-1) for one that never comes
                again; needed only with a memory.
            sample_weight: (n,) weight of each document in the mean; loo only.

        Raises:
            ValueError: there is a memory and no `documents`, or shapes or dtypes do not fit.
        """
        if sample_weight is not None and self.mode == "paper":
            raise ValueError('sample_weight belongs to mode "loo"; the published loss has none')
        labels, shown = check_batch(embeddings, labels), None
        if self.memory is not None:
            if documents is None:
                raise ValueError(
                    "a loss with a memory needs the number of each document, or a copy would reveal its label: "
                    "call loss(embeddings, labels, documents), -1 for documents that never come again"
                )
            shown = self.memory.boundary(labels, documents)
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
                sample_weight=sample_weight,
                num_classes=self.num_classes,
                memory=shown,
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
        if self.memory is not None and documents is not None and self.training:
            self.memory.add(embeddings.detach(), labels, documents)
        return result.loss

    def extra_repr(self) -> str:
        """Name the mode and the bandwidth in the module's repr."""
        return f"mode={self.mode!r}, sigma={self.sigma!r}"

    def _learned(self) -> Tensor | None:
        """The learned sigma, 0-d, clamped to `LEAST_SIGMA`, below which it has no gradient."""
        return None if self.log_sigma is None else working(self.log_sigma).exp().clamp_min(LEAST_SIGMA)

    def _bandwidth_for(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if (learned := self._learned()) is not None:
            return learned
        if not bool(self.calibrated):
            self._by_rule(unit(embeddings.detach()), labels)
        return self.sigma_value

    def _by_rule(self, z: Tensor, labels: Tensor) -> None:
        self.sigma_value.copy_(bandwidth(z, labels, str(self.sigma)))
        self.calibrated.fill_(True)

    def _draw(self, labels: Tensor) -> Tensor:
        """Show a random share gamma of the labels, at least one, and hide at least one.

        In evaluation the generator restarts from the seed and its state is not kept, so validation never changes the
        training.
        """
        generator = torch.Generator()
        if self.training:
            generator.set_state(self.rng_state.cpu())
        else:
            generator.manual_seed(self.seed)
        labeled = (labels >= 0).nonzero()[:, 0].cpu()  # (l,)
        order = labeled[torch.randperm(labeled.numel(), generator=generator)]
        if self.training:
            self.rng_state.copy_(generator.get_state())
        count = min(max(round(self.gamma * labeled.numel()), 1), max(labeled.numel() - 1, 0))
        shown = torch.zeros(labels.shape, dtype=torch.bool)
        shown[order[:count]] = True
        return shown.to(labels.device)


def call_loss(
    loss: nn.Module, embeddings: Tensor, labels: Tensor, documents: Tensor | None, sample_weight: Tensor | None = None
) -> Tensor:
    """Loss of a batch, 0-d; document numbers go to a loss with a memory alone, weights to leave-one-out G-Loss."""
    more = {}
    if getattr(loss, "memory", None) is not None:
        more["documents"] = documents
    if sample_weight is not None and isinstance(loss, GLoss) and loss.mode == "loo":
        more["sample_weight"] = sample_weight
    return loss(embeddings, labels, **more)


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
        check_numbers(weight=weight)
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight must lie between 0 (cross-entropy alone) and 1 (graph loss alone), got {weight}")
        check_class_weights(class_weights)
        self.graph_loss, self.weight = graph_loss, 0.0 if graph_loss is None else weight
        # its own copy: safetensors refuses a checkpoint in which two names share memory
        self.register_buffer("class_weights", None if class_weights is None else class_weights.clone())

    def forward(
        self,
        embeddings: Tensor,
        logits: Tensor,
        labels: Tensor,
        documents: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> CombinedResult:
        """Both losses of a batch.

        Args:
            embeddings: (n, d).
            logits: (n, C) of a head on the same embeddings.
            labels: (n,), -1 for unlabeled, which the cross-entropy passes over.
            documents: (n,) number of each document, for a graph loss with a memory.
            sample_weight: (n,) weight of each document in the mean of the cross-entropy, and of leave-one-out G-Loss.

        Raises:
            ValueError: a label is out of range, or weights do not fit.
        """
        check_sample_weight(sample_weight, len(labels))
        if len(labels) and not (labels.min() >= -1 and labels.max() < logits.shape[1]):
            raise ValueError(
                f"expected labels from -1 (unlabeled) to {logits.shape[1] - 1}, the classes of the head, got "
                f"{int(labels.min())} to {int(labels.max())}; count classes from 0"
            )
        with no_autocast(logits):
            scores = working(logits)
            log_p = functional.log_softmax(scores, dim=1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
            ce = weighted_mean(-log_p, labels, labels >= 0, self.class_weights, sample_weight)
            if self.graph_loss is None:
                part, coverage = ce.new_zeros(()), ce.new_zeros(())
                loss = ce
            else:
                part = call_loss(self.graph_loss, embeddings, labels, documents, sample_weight)
                coverage = torch.as_tensor(getattr(self.graph_loss, "coverage", 1.0))
                loss = (1.0 - self.weight) * ce + self.weight * part
        return CombinedResult(loss, ce.detach(), part.detach(), coverage)
