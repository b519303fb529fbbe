"""A linear classifier fitted on soft targets with weights: what a graph says of unlabelled documents, as a head.

Letters: z (n, d) of unit length, T (n, C) target probabilities, w (n,) weights::

    min over W, b of   sum_i w_i H(T_i, softmax(W z_i + b)) + |W|^2 / (2 C_reg)

With one-hot targets and weights of one this is scikit-learn's logistic regression, which takes no soft targets; as
there, the penalty of two classes counts twice.
"""

from __future__ import annotations

import torch

from graphloss.evaluation import ABSENT_BIAS, Probe
from graphloss.graph import unit

ITERATIONS = 200
"""Of L-BFGS; a fit takes 30 to 150."""


def soft_probe(
    embeddings: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    inverse_regularization: float = 10.0,
    tolerance: float = 1e-5,
) -> Probe:
    """Fit a softmax on soft targets by L-BFGS.

    A class without any target mass gets weight 0 and bias `ABSENT_BIAS`, so it is never predicted.

    Args:
        embeddings: (n, d), scaled to unit length here.
        targets: (n, C) probabilities.
        weights: (n,), not negative; documents of weight 0 are left out.
        inverse_regularization: scikit-learn's C, for weights that count documents.
        tolerance: of the largest entry of the mean loss's gradient.

    Raises:
        ValueError: if shapes disagree, something is not finite or negative, or all weights are 0.
    """
    n = len(embeddings)
    if targets.dim() != 2 or len(targets) != n or weights.shape != (n,):
        raise ValueError(
            f"expected targets ({n}, classes) and weights ({n},), one row an embedding, came {tuple(targets.shape)} "
            f"and {tuple(weights.shape)}"
        )
    if not all(torch.isfinite(values).all() for values in (embeddings, targets, weights)):
        raise ValueError("expected finite embeddings, targets and weights, came NaN or infinity")
    if (weights < 0).any() or (targets < 0).any():
        raise ValueError("expected targets and weights of at least 0, came a negative one")
    used = weights > 0
    if not used.any():
        raise ValueError("expected at least one document with a weight above 0 to fit the probe on, came none")
    z, t, share = unit(embeddings[used].detach().float()), targets[used].float(), weights[used].float()
    total = share.sum()
    share = share / total  # (m,)
    present = (share @ t > 0).nonzero()[:, 0]
    t = t[:, present]  # (m, c)

    w = torch.zeros(len(present), z.shape[1], device=z.device, requires_grad=True)
    b = torch.zeros(len(present), device=z.device, requires_grad=True)
    # scikit-learn holds two classes by one vector v; ours are v / 2 and -v / 2, whose squares sum to half of its own
    decay = (2.0 if len(present) == 2 else 1.0) / (2.0 * inverse_regularization * total)
    search = torch.optim.LBFGS(
        [w, b], max_iter=ITERATIONS, tolerance_grad=tolerance, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        log_p = torch.log_softmax(z @ w.T + b, dim=1)  # (m, c)
        value = -((t * log_p).sum(dim=1) * share).sum() + decay * w.square().sum()
        value.backward()
        return value

    if len(present) > 1:
        with torch.enable_grad():
            search.step(loss)
    weight = torch.zeros(targets.shape[1], z.shape[1])
    bias = torch.full((targets.shape[1],), ABSENT_BIAS)
    weight[present.cpu()], bias[present.cpu()] = w.detach().cpu(), b.detach().cpu()
    return Probe(weight, bias)
