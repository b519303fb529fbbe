"""Symmetric positive definite systems, each with one Cholesky factor and a gradient that reuses it.

Letters as in `propagation`::

    solve       X = M^-1 B
    absorb      F = (diag(d) - T)^-1 R,  d = T 1 + R 1      absorption probabilities of a reversible walk
    paper_walk  T = the published transition matrix (Sharma, Agarwal, Kumar, arXiv 2604.25853, section 3)

`absorb` is the harmonic function in the form least sensitive to rounding: the diagonal is the sum of the rounded
off-diagonal entries, T and R are never negative, and substitution then only adds. A walk T with T_ij s_i^2 = T_ji s_j^2
becomes symmetric as N_ij = s_i T_ij / s_j. Float32 stays float32; if a pivot shows too little precision (hidden
documents that hardly reach a labeled one), the system is factored in float64, on devices that have it.

The gradient with lam = A^-T G, A = diag(d) - T, is  dT_ij = lam_i . (F_j - F_i),  dR_ic = lam_ic - lam_i . F_i.
"""

from typing import Any

import torch
from torch import Tensor

from graphloss.losses.graph import first_order, log_norm, no_autocast

_NO_FLOAT64 = ("mps",)
_TRUSTED_PIVOT = 1e-2  # below it the error in float32 may exceed about 1e-5
_LEAKS = {torch.float32: (1e-6, 1e-5, 1e-4, 1e-3), torch.float64: (1e-14, 1e-12, 1e-10, 1e-8)}
_RANGE = {torch.float32: 40.0, torch.float64: 300.0}  # of log s: s and 1/s both stay far inside the dtype


class _Solve(torch.autograd.Function):
    """X = M^-1 B for symmetric positive definite M; adjoint: G_B = M^-1 G_X, G_M = -G_B X^T, from the same factor."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, b: Tensor) -> Tensor:
        factor, failed = torch.linalg.cholesky_ex(m)  # (n, n)
        if bool(failed):
            if bool(m.isfinite().all()):
                torch.linalg.cholesky(m)  # raises and says where
            factor = torch.full_like(m, float("nan"))  # what is no number in goes through, as in other losses
        x = torch.cholesky_solve(b, factor)  # (n, C)
        ctx.save_for_backward(factor, x)
        return x

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        factor, x = ctx.saved_tensors
        with no_autocast(grad):
            grad_b = torch.cholesky_solve(grad, factor)
            grad_m = None
            if ctx.needs_input_grad[0]:
                grad_m = grad_b @ x.T
                grad_m = (grad_m + grad_m.T).mul_(-0.5)
        return grad_m, grad_b


def solve(m: Tensor, b: Tensor) -> Tensor:
    """Solve M X = B by one Cholesky factor, which the gradient reuses; twice differentiating raises.

    Args:
        m: (n, n) symmetric positive definite, float32 or float64.
        b: (n, C).
    """
    with no_autocast(m):
        x: Tensor = _Solve.apply(m, b)
    return x


class _Absorb(torch.autograd.Function):
    """F = (diag(d) - T)^-1 R with d = T 1 + R 1; see `absorb`."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, r: Tensor, log_s: Tensor, prior: Tensor) -> Tensor:
        factor, s, d = _factor(t, r, log_s)
        t64, r64 = t.to(factor.dtype), r.to(factor.dtype)
        f = torch.cholesky_solve(s[:, None] * r64, factor) / s[:, None]  # (u, C)
        f = _rescaled(f, f)
        # one exact step of the walk: rows whose s left the range of the dtype are recomputed from their neighbors
        f = (r64 + t64 @ f) / d[:, None]
        fallback = prior.to(factor.dtype).expand_as(f)
        reached = f.sum(dim=1, keepdim=True) > 0.5  # (u, 1): by labels, not only by rounding
        f = _rescaled(f, fallback)
        ctx.save_for_backward(factor, s, d, t, f, reached)
        return f.to(t.dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        factor, s, d, t, f, reached = ctx.saved_tensors
        with no_autocast(grad):
            g = torch.where(reached, grad.to(factor.dtype), 0.0)  # (u, C)
            lam = s[:, None] * torch.cholesky_solve(g / s[:, None], factor)  # (u, C)
            lam = (g + t.to(factor.dtype).T @ lam) / d[:, None]  # the adjoint's own exact step
            # F's rows sum to one, so a constant may be subtracted from each row of lam: with its value at the largest
            # entry of F, only small entries of F stay in the sums, and a nearly certain row keeps its precision
            lam = lam - lam.gather(1, f.argmax(dim=1, keepdim=True))
            own = (lam * f).sum(dim=1, keepdim=True)  # (u, 1)
            grad_t = torch.addmm(-own, lam, f.T)  # (u, u)
            grad_r = lam - own  # (u, C)
        # Beyond the range, where an entry of T or R is next to nothing, a number; the sums over a row stay in it too.
        most = torch.finfo(grad.dtype).max / (4 * sum(grad_r.shape))
        grad_t, grad_r = (part.clamp(-most, most).to(grad.dtype) for part in (grad_t, grad_r))
        return grad_t, grad_r, None, None


def _rescaled(f: Tensor, fallback: Tensor) -> Tensor:
    """Rows that sum to one; `fallback` where hardly any mass arrived."""
    mass = f.sum(dim=1, keepdim=True)
    return torch.where(mass > 0.5, f / mass.clamp_min(0.5), fallback)


def _factor(t: Tensor, r: Tensor, log_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factor diag(d) - N, N_ij = sqrt(T_ij T_ji) = s_i T_ij / s_j, in the cheapest dtype that holds it.

    Returns:
        (factor (u, u), s (u,), d (u,)) in the dtype that was used.
    """
    can_rescue = t.dtype == torch.float32 and t.device.type not in _NO_FLOAT64
    if can_rescue:
        m, s, d, clipped = _system(t, r, log_s)
        factor, info = torch.linalg.cholesky_ex(m)
        weak = (info != 0) | clipped | ~(factor.diagonal().square() > _TRUSTED_PIVOT * d).all()
        if not bool(weak):
            return factor, s, d
        t, r, log_s = t.double(), r.double(), log_s.double()
    m, s, d, _ = _system(t, r, log_s)
    for leak in _LEAKS[t.dtype]:
        factor, info = torch.linalg.cholesky_ex(m + torch.diag(leak * d))
        if int(info) == 0:
            break
    return factor, s, d


def _system(t: Tensor, r: Tensor, log_s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    root = t.sqrt()  # before the product: sqrt(T_ij) sqrt(T_ji) underflows later than T_ij T_ji
    m = root * root.T  # (u, u) N
    log_s = log_s - log_s.max()
    limit = -_RANGE[t.dtype]
    s = log_s.clamp_min(limit).exp()  # (u,)
    lost = log_s < limit
    # Compute the diagonal from the same rounded off-diagonal entries, so that row sums are exact and tiny escape
    # probabilities are not lost to cancellation.
    d = (m @ s) / s  # (u,)
    # A document that no other has as a neighbor, in the range of the dtype, keeps its own weights.
    d = torch.where(lost | (d == 0), t.sum(dim=1), d) + r.sum(dim=1)
    m.neg_().diagonal().add_(d)
    return m, s, d, lost.any()


def absorb(t: Tensor, r: Tensor, log_s: Tensor, prior: Tensor) -> Tensor:
    """Absorption probabilities of a reversible walk over hidden nodes: F = (diag(d) - T)^-1 R, d the row sums of [T R].

    Rows of [T R] need not sum to one: F does not depend on their scale, and its own rows always sum to one. A row that
    no label reaches is the prior, with a gradient of zero.

    Args:
        t: (u, u) weights between hidden nodes, T_ij s_i^2 = T_ji s_j^2 (symmetric up to a diagonal scaling).
        r: (u, C) weights to the absorbing nodes.
        log_s: (u,) log of s; any constant may be added. No gradient: s cancels.
        prior: (C,) row of F where no label reaches.

    Returns:
        F (u, C).
    """
    if t.shape[0] == 0:
        return r
    with no_autocast(t):
        f: Tensor = _Absorb.apply(t, r, log_s.detach(), prior.detach())
    return f


class _PaperWalk(torch.autograd.Function):
    """Hidden rows of the published T, and log_b; see `paper_walk`."""

    @staticmethod
    def forward(ctx: Any, logw: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logw, dim=1)  # (n, n)
        log_r = log_norm(logw, p) / -2  # (n,)
        scaled = logw + log_r  # (n, n)
        p_r = torch.softmax(scaled, dim=1)  # (n, n)
        log_b = -log_norm(scaled, p_r)  # (n,)
        rows = logw[hidden] + log_b  # (u, n)
        t = torch.softmax(rows, dim=1)
        ctx.save_for_backward(p, p_r, t, hidden)
        log_pi = log_b[hidden] + log_norm(rows, t)  # log(b / a), (u,)
        ctx.mark_non_differentiable(log_pi)
        return t, log_pi

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        p, p_r, t, hidden = ctx.saved_tensors
        rows = (grad - (grad * t).sum(dim=1, keepdim=True)).mul_(t)  # (u, n), at the logits
        to_b = rows.sum(dim=0)  # (n,)
        to_r = -(to_b @ p_r)  # (n,)
        both = (p_r * -to_b[:, None]).addcmul_(p, (to_r / -2)[:, None])  # (n, n)
        return both.index_add_(0, hidden, rows), None


def paper_walk(logw: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden rows of the published transition matrix, without ever forming S, whose rows underflow at small sigma.

    The paper's T is S = D^-1/2 W D^-1/2 with columns and then rows divided by their sums. Dividing a column of S by its
    sum leaves W with column j scaled by b_j = 1 / sum_i W_ij r_i, r = d^-1/2; so T is the row-softmax of logw + log b.

    Args:
        logw: (n, n) log-similarity.
        hidden: (u,) indices of the hidden nodes.

    Returns:
        T_U (u, n), and the log of T's stationary measure b / a on the hidden nodes (u,), without gradient.
    """
    t, log_pi = _PaperWalk.apply(logw, hidden)
    return t, log_pi
