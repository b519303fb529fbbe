"""Label propagation: the kernels that predict each document without its own label.

Letters::

    logw (n, n)   log-similarity of `graph.log_affinity`, symmetric, diagonal masked
    P = D^-1 W    random walk: the row-softmax of logw           S = D^-1/2 W D^-1/2
    L, U          nodes whose label is shown / hidden (in number l and u)
    Y (l, C)      one-hot rows                                    F (n, C) class probabilities

    left out      F_i = sum_{j != i} K_ij y_j / sum_{j != i} K_ij with
                  K = P_LL + P_LU (I - P_UU)^-1 P_UL  (harmonic: Zhu, Ghahramani, Lafferty 2003, equation 5)  or
                  K = (I - a S)^-1  (spreading: Zhou et al. 2003, equation 3)

Each is one symmetric positive definite system of `solvers`. A label of -1 is a hidden node everywhere.
"""

import torch
from torch import Tensor

from graphloss.losses.graph import MASKED, log_norm, logsumexp
from graphloss.losses.solvers import absorb, solve


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot rows (n, C), zero where the label is -1."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(dtype)


def frequencies(y: Tensor) -> Tensor:
    """Class frequencies (C,) of one-hot rows; uniform where there is none."""
    count = y.sum(dim=0)
    return torch.where(count.sum() > 0, count / count.sum().clamp_min(1), torch.full_like(count, 1 / y.shape[1]))


def normalized(f: Tensor, prior: Tensor) -> Tensor:
    """Rows scaled to sum to one; a row of zeros becomes the prior."""
    total = f.sum(dim=1, keepdim=True)
    reached = total > torch.finfo(f.dtype).tiny
    return torch.where(reached, f / torch.where(reached, total, torch.ones_like(total)), prior)


def _spread_system(logw: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return (I - a S, log S)."""
    if not 0 < alpha < 1:
        raise ValueError(f"spreading needs 0 < alpha < 1, got {alpha}; alpha = 1 is the harmonic function")
    half = logsumexp(logw) / 2  # (n,)
    log_s = logw - half[:, None] - half[None, :]  # (n, n)
    return torch.eye(logw.shape[0], dtype=logw.dtype, device=logw.device) - alpha * log_s.exp(), log_s


def loo_log_kernel(logw: Tensor, labels: Tensor, alpha: float = 1.0, ends: Tensor | None = None) -> Tensor:
    """Log of the kernel K between labeled nodes, diagonal masked.

    Where K underflows, the log of the direct edge replaces it: a lower bound with a live gradient.

    Args:
        logw: (n, n) log-similarity.
        labels: (n,) class indices, -1 for unlabeled (hidden) nodes.
        alpha: 1 for the harmonic kernel, below 1 for spreading.
        ends: (n, e) log-similarity with boundary nodes outside the batch; harmonic only.

    Returns:
        (l, l) for the l labeled nodes, in their order, or (l, l + e) with the ends after them; each row up to a
        constant.
    """
    labeled = (labels >= 0).nonzero()[:, 0]  # (l,)
    if alpha == 1.0:
        hidden = (labels < 0).nonzero()[:, 0]  # (u,)
        rows = logw if ends is None else torch.cat([logw, ends], dim=1)  # (n, n + e)
        if hidden.numel() == 0:
            return rows
        outside = torch.arange(logw.shape[1], rows.shape[1], device=logw.device)  # (e,)
        log_kernel = _first_met(rows, labeled, hidden, torch.cat([labeled, outside]))  # (l, l + e)
    else:
        if ends is not None:
            raise ValueError("boundary nodes outside the batch need alpha = 1: spreading would pass through them")
        m, log_s = _spread_system(logw, alpha)
        kernel = solve(m, torch.eye(m.shape[0], dtype=m.dtype, device=m.device)[:, labeled])[labeled]
        log_kernel = _log_or(kernel, log_s[labeled][:, labeled])
    own = torch.eye(*log_kernel.shape, dtype=torch.bool, device=logw.device)
    return log_kernel.masked_fill(own, MASKED)


def _first_met(rows: Tensor, start: Tensor, hidden: Tensor, ends: Tensor) -> Tensor:
    """Log-distribution of the first of `ends` that a walk from `start` meets, through `hidden` nodes only.

    Args:
        rows: (n, m) log-similarity of the n nodes with all m, themselves first; diagonal masked.
        start: (s,) indices.
        hidden: (u,) indices.
        ends: (e,) indices; with `hidden` they are all m.

    Returns:
        (s, e).
    """
    logp = torch.log_softmax(rows[start], dim=1)  # (s, m)
    p = logp.exp()
    inner = rows[hidden]  # (u, m)
    q = torch.softmax(inner, dim=1)
    prior = q.new_full((ends.numel(),), 1 / max(ends.numel(), 1))
    h = absorb(q[:, hidden], q[:, ends], log_norm(inner, q) / 2, prior)  # (u, e)
    return _log_or(p[:, ends] + p[:, hidden] @ h, logp[:, ends])


def _log_or(kernel: Tensor, direct: Tensor) -> Tensor:
    """Log of the kernel, or of the direct edge where the kernel underflows."""
    tiny = torch.finfo(kernel.dtype).tiny * 1e6
    return torch.where(kernel > tiny, kernel.clamp_min(tiny).log(), direct)
