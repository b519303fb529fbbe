"""Labels flow over a graph: harmonic functions, label spreading, and both with each document's own label left out.

Letters::

    logw (n, n)   log-similarity of `graph.log_affinity`, symmetric, diagonal masked
    P = D^-1 W    random walk: the row-softmax of logw           S = D^-1/2 W D^-1/2
    L, U          nodes whose label is shown / hidden (in number l and u)
    Y (l, C)      one-hot rows                                    F (n, C) class probabilities

    harmonic      F_U = (I - P_UU)^-1 P_UL Y_L                    Zhu, Ghahramani, Lafferty 2003, equation 5
    spreading     F   = (I - a S)^-1 Y, rows normalised           Zhou et al. 2003, equation 3
    left out      F_i = sum_{j != i} K_ij y_j / sum_{j != i} K_ij with
                  K = P_LL + P_LU (I - P_UU)^-1 P_UL  (harmonic)  or  K = (I - a S)^-1  (spreading)

Each is one symmetric positive definite system, factored once; the backward reuses the factor. Factors are float32 for
float32 input. Only where a pivot says that float32 cannot hold the answer (hidden documents that hardly reach a shown
one) is the reduced system factored in float64, on devices that have it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphloss.graph import MASKED, exact, logsumexp

_NO_FLOAT64 = ("mps",)
_TRUSTED_PIVOT = 1e-2  # below it float32 may lose more than about 1e-5 of the answer
_LEAKS = {torch.float32: (1e-6, 1e-5, 1e-4, 1e-3), torch.float64: (1e-14, 1e-12, 1e-10, 1e-8)}
_RANGE = {torch.float32: 40.0, torch.float64: 300.0}  # of log s: s and 1/s both stay far inside the dtype


class _Solve(torch.autograd.Function):
    """X = M^-1 B for symmetric positive definite M; adjoint: G_B = M^-1 G_X, G_M = -G_B X^T, from the same factor."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, b: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(m)  # (n, n)
        x = torch.cholesky_solve(b, factor)  # (n, C)
        ctx.save_for_backward(factor, x)
        return x

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        factor, x = ctx.saved_tensors
        with exact(grad):
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
    with exact(m):
        x: Tensor = _Solve.apply(m, b)  # type: ignore[no-untyped-call]
    return x


class _Absorb(torch.autograd.Function):
    """F = (diag(d) - T)^-1 R with d = T 1 + R 1; see `absorb`."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, r: Tensor, log_s: Tensor, prior: Tensor) -> Tensor:
        factor, s, d = _factor(t, r, log_s)
        t64, r64 = t.to(factor.dtype), r.to(factor.dtype)
        f = torch.cholesky_solve(s[:, None] * r64, factor) / s[:, None]  # (u, C)
        f = _rescaled(f, f)
        # one exact step of the walk: rows whose s left the range of the dtype get their neighbours' answer back
        f = (r64 + t64 @ f) / d[:, None]
        fallback = prior.to(factor.dtype).expand_as(f)
        known = f.sum(dim=1, keepdim=True) > 0.5  # (u, 1): reached by labels, not only by rounding
        f = _rescaled(f, fallback)
        ctx.save_for_backward(factor, s, d, t, f, known)
        return f.to(t.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        factor, s, d, t, f, known = ctx.saved_tensors
        with exact(grad):
            g = torch.where(known, grad.to(factor.dtype), 0.0)  # (u, C)
            lam = s[:, None] * torch.cholesky_solve(g / s[:, None], factor)  # (u, C)
            lam = (g + t.to(factor.dtype).T @ lam) / d[:, None]  # the adjoint's own exact step
            own = (lam * f).sum(dim=1, keepdim=True)  # (u, 1)
            grad_t = torch.addmm(-own, lam, f.T)  # (u, u)
            grad_r = lam - own  # (u, C)
        return grad_t.to(grad.dtype), grad_r.to(grad.dtype), None, None


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
    # the diagonal from the very numbers that stand off it: row sums hold exactly, so small escape rates survive
    d = torch.where(lost, t.sum(dim=1), (m @ s) / s) + r.sum(dim=1)  # (u,)
    m.neg_().diagonal().add_(d)
    return m, s, d, lost.any()


def absorb(t: Tensor, r: Tensor, log_s: Tensor, prior: Tensor) -> Tensor:
    """Where a reversible walk over hidden nodes ends: F = (diag(d) - T)^-1 R, d the row sums of [T R].

    Rows of [T R] need not sum to one; F is the same for any scale of a row, and its own rows always sum to one. A row
    that labels do not reach is the prior, with a gradient of zero.

    Args:
        t: (u, u) weights between hidden nodes, T_ij s_i^2 = T_ji s_j^2 (symmetric up to a diagonal scaling).
        r: (u, C) weights to the ends.
        log_s: (u,) log of s; any constant may be added. No gradient: s cancels.
        prior: (C,) answer where nothing is known.

    Returns:
        F (u, C).
    """
    if t.shape[0] == 0:
        return r
    with exact(t):
        f: Tensor = _Absorb.apply(t, r, log_s.detach(), prior.detach())  # type: ignore[no-untyped-call]
    return f


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot rows (n, C), zero where the label is -1."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(dtype)


def frequencies(y: Tensor) -> Tensor:
    """Class frequencies (C,) of one-hot rows; uniform where there is none."""
    count = y.sum(dim=0)
    return torch.where(count.sum() > 0, count / count.sum().clamp_min(1), torch.full_like(count, 1 / y.shape[1]))


def normalised(f: Tensor, prior: Tensor) -> Tensor:
    """Rows scaled to sum to one; a row of zeros becomes the prior."""
    total = f.sum(dim=1, keepdim=True)
    reached = total > torch.finfo(f.dtype).tiny
    return torch.where(reached, f / torch.where(reached, total, torch.ones_like(total)), prior)


def class_mass_normalised(f: Tensor, prior: Tensor, rows: Tensor) -> Tensor:
    """Scale classes so that their mass over `rows` follows the prior, then rows to one (Zhu et al. 2003, equation 9).

    Args:
        f: (n, C) probabilities.
        prior: (C,) share each class should have.
        rows: (n,) boolean, the predicted rows; the others are returned as they are.
    """
    mass = f[rows].sum(dim=0)  # (C,)
    scaled = f * torch.where(mass > 0, prior / torch.where(mass > 0, mass, torch.ones_like(mass)), prior)
    return torch.where(rows[:, None], normalised(scaled, prior), f)


def harmonic(
    logw: Tensor, labels: Tensor, num_classes: int, *, shown: Tensor | None = None, class_mass: bool = False
) -> Tensor:
    """Harmonic function: a hidden node is the mean of its neighbours, a shown one its label.

    Args:
        logw: (n, n) log-similarity.
        labels: (n,) class indices, -1 for unlabelled (always hidden).
        num_classes: C.
        shown: (n,) boolean, labels the graph may see; all that are given when left out.
        class_mass: rescale so that the classes keep the shown labels' proportions among the hidden nodes.

    Returns:
        F (n, C); one-hot rows where shown.
    """
    seen = labels >= 0 if shown is None else shown & (labels >= 0)
    y = one_hot(torch.where(seen, labels, -1), num_classes, logw.dtype)  # (n, C)
    hidden = (~seen).nonzero()[:, 0]  # (u,)
    prior = frequencies(y)
    if hidden.numel() == 0:
        return y
    rows = logw[hidden]  # (u, n)
    p = torch.softmax(rows, dim=1)
    f_u = absorb(p[:, hidden], p @ y, _lse(rows, p) / 2, prior)  # (u, C)
    f = y.index_copy(0, hidden, f_u)
    return class_mass_normalised(f, prior, ~seen) if class_mass else f


class _PaperWalk(torch.autograd.Function):
    """Hidden rows of the published T, and log_b; see `paper_walk`."""

    @staticmethod
    def forward(ctx: Any, logw: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logw, dim=1)  # (n, n)
        log_r = _lse(logw, p) / -2  # (n,)
        scaled = logw + log_r  # (n, n)
        p_r = torch.softmax(scaled, dim=1)  # (n, n)
        log_b = -_lse(scaled, p_r)  # (n,)
        rows = logw[hidden] + log_b  # (u, n)
        t = torch.softmax(rows, dim=1)
        ctx.save_for_backward(p, p_r, t, hidden)
        log_pi = log_b[hidden] + _lse(rows, t)  # log(b / a), (u,)
        ctx.mark_non_differentiable(log_pi)
        return t, log_pi

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        p, p_r, t, hidden = ctx.saved_tensors
        rows = (grad - (grad * t).sum(dim=1, keepdim=True)).mul_(t)  # (u, n), at the logits
        to_b = rows.sum(dim=0)  # (n,)
        to_r = -(to_b @ p_r)  # (n,)
        both = (p_r * -to_b[:, None]).addcmul_(p, (to_r / -2)[:, None])  # (n, n)
        return both.index_add_(0, hidden, rows), None


def _lse(x: Tensor, p: Tensor) -> Tensor:
    return x.amax(dim=1) - p.amax(dim=1).log()


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
    t, log_pi = _PaperWalk.apply(logw, hidden)  # type: ignore[no-untyped-call]
    return t, log_pi


def _spread_system(logw: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return (I - a S, log S)."""
    if not 0 < alpha < 1:
        raise ValueError(f"spreading needs 0 < alpha < 1, got {alpha}; alpha = 1 is the harmonic function")
    half = logsumexp(logw) / 2  # (n,)
    log_s = logw - half[:, None] - half[None, :]  # (n, n)
    return torch.eye(logw.shape[0], dtype=logw.dtype, device=logw.device) - alpha * log_s.exp(), log_s


def spreading(
    logw: Tensor, labels: Tensor, num_classes: int, *, alpha: float = 0.9, class_mass: bool = False
) -> Tensor:
    """Label spreading: rows of (I - a S)^-1 Y, normalised.

    Args:
        logw: (n, n) log-similarity.
        labels: (n,) class indices, -1 for unlabelled.
        num_classes: C.
        alpha: share that flows on at each step, between 0 and 1 (exclusive); the rest returns to the labels.
        class_mass: as in `harmonic`, over the unlabelled nodes.

    Returns:
        F (n, C).
    """
    y = one_hot(labels, num_classes, logw.dtype)  # (n, C)
    prior = frequencies(y)
    m, _ = _spread_system(logw, alpha)
    f = normalised(solve(m, y), prior)
    return class_mass_normalised(f, prior, labels < 0) if class_mass else f


def loo_log_kernel(logw: Tensor, labels: Tensor, alpha: float = 1.0) -> Tensor:
    """Log of the kernel K by which labelled nodes see one another, diagonal masked.

    Where K underflows, the log of its direct edge stands in: a lower bound with a live gradient.

    Args:
        logw: (n, n) log-similarity.
        labels: (n,) class indices, -1 for unlabelled, which become hidden nodes.
        alpha: 1 for the harmonic kernel, below 1 for spreading.

    Returns:
        (l, l) for the l labelled nodes, in their order; rows are defined up to a constant each.
    """
    seen = labels >= 0
    given = seen.nonzero()[:, 0]  # (l,)
    if alpha == 1.0:
        hidden = (~seen).nonzero()[:, 0]  # (u,)
        if hidden.numel() == 0:
            return logw
        logp = torch.log_softmax(logw[given], dim=1)  # (l, n)
        h = _hidden_kernel(logw, hidden, given)  # (u, l)
        p = logp.exp()
        kernel = p[:, given] + p[:, hidden] @ h  # (l, l)
        direct = logp[:, given]
    else:
        m, log_s = _spread_system(logw, alpha)
        kernel = solve(m, torch.eye(m.shape[0], dtype=m.dtype, device=m.device)[:, given])[given]
        direct = log_s[given][:, given]
    tiny = torch.finfo(logw.dtype).tiny * 1e6
    log_kernel = torch.where(kernel > tiny, kernel.clamp_min(tiny).log(), direct)
    eye = torch.eye(given.numel(), dtype=torch.bool, device=logw.device)
    return log_kernel.masked_fill(eye, MASKED)


def _hidden_kernel(logw: Tensor, hidden: Tensor, given: Tensor) -> Tensor:
    """H = (I - P_UU)^-1 P_UL, (u, l): which labelled node a walk from a hidden one meets first."""
    rows = logw[hidden]  # (u, n)
    p = torch.softmax(rows, dim=1)
    prior = p.new_full((given.numel(),), 1 / max(given.numel(), 1))
    return absorb(p[:, hidden], p[:, given], _lse(rows, p) / 2, prior)


def _loo(logw: Tensor, labels: Tensor, f: Tensor, alpha: float, class_mass: bool) -> Tensor:
    """Put the left-out predictions of the labelled nodes over the rows of f."""
    num_classes = f.shape[1]
    given = (labels >= 0).nonzero()[:, 0]
    y = one_hot(labels, num_classes, logw.dtype)[given]  # (l, C)
    prior = frequencies(y)
    if given.numel() >= 2:
        k = torch.softmax(loo_log_kernel(logw, labels, alpha), dim=1)  # (l, l)
        eye = torch.eye(given.numel(), dtype=torch.bool, device=logw.device)
        left = normalised(k.masked_fill(eye, 0.0) @ y, prior)
    else:
        left = prior.expand(given.numel(), num_classes)
    f = f.index_copy(0, given, left)
    return class_mass_normalised(f, prior, torch.ones_like(labels, dtype=torch.bool)) if class_mass else f


def loo_harmonic(logw: Tensor, labels: Tensor, num_classes: int, *, class_mass: bool = False) -> Tensor:
    """Harmonic prediction of every node that has not seen the node's own label.

    A labelled node is predicted as if it alone were hidden besides the unlabelled ones; an unlabelled node as in
    `harmonic`. With no unlabelled node this is the soft nearest-neighbour rule of NCA at temperature sigma squared.

    Args:
        logw: (n, n) log-similarity.
        labels: (n,) class indices, -1 for unlabelled.
        num_classes: C.
        class_mass: rescale so that the classes keep the labels' proportions over all nodes.

    Returns:
        F (n, C); the label frequencies where a node has nobody to ask.
    """
    return _loo(logw, labels, harmonic(logw, labels, num_classes), 1.0, class_mass)


def loo_spreading(
    logw: Tensor, labels: Tensor, num_classes: int, *, alpha: float = 0.9, class_mass: bool = False
) -> Tensor:
    """Spreading prediction of every node that has not seen the node's own label, from one solve.

    Arguments and result as in `loo_harmonic`; alpha as in `spreading`.
    """
    return _loo(logw, labels, spreading(logw, labels, num_classes, alpha=alpha), alpha, class_mass)
