"""From embeddings to a graph of documents, in the log domain.

Letters (`docs/explanation/maths.md` has the derivations; Sharma, Agarwal, Kumar, arXiv 2604.25853, section 3)::

    n  documents        d  dimensions         C  classes
    z  (n, d)           embeddings of unit length
    W  (n, n)           W_ij = exp(-|z_i - z_j|^2 / (2 s^2)),  W_ii = 0
    logw = log W        on unit vectors |z_i - z_j|^2 = 2 - 2 cos, so  logw_ij = (cos_ij - 1) / s^2

W itself is never formed: its users take a softmax of `logw`, in which sigma squared is the temperature. No row
underflows, however small sigma is.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MASKED = -1e30
"""Log-similarity of "no edge": finite, so that a row without any edge has a gradient of zero and not NaN."""


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Return a context without autocast on this tensor's device."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a backward pass raise under `create_graph=True`: its own steps have no gradient.

    torch's `once_differentiable` raises only if the incoming gradient requires one, and is silently wrong otherwise.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "expected a first derivative, got create_graph=True: graphloss losses have no second derivatives; "
                "leave out create_graph=True"
            )
        return backward(ctx, *grads)

    return checked


def working(tensor: Tensor) -> Tensor:
    """Cast to the dtype of the computation: float64 stays, everything smaller becomes float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def unit(embeddings: Tensor) -> Tensor:
    """Scale each row to unit length.

    A row of zeros or denormal numbers stays as it is and passes its gradient on unscaled, so it can leave the origin.
    Dividing by the largest entry first keeps squares in range; the result does not depend on it, so it has no gradient.

    Args:
        embeddings: (n, d), any floating dtype.

    Returns:
        z (n, d), float64 for float64 input and float32 for any other.
    """
    x = working(embeddings)  # (n, d)
    if x.shape[-1] == 0:
        raise ValueError("embeddings have 0 dimensions; expected shape (documents, dimensions)")
    scale = x.detach().abs().amax(dim=-1, keepdim=True)  # (n, 1)
    x = x / torch.where(scale >= torch.finfo(x.dtype).tiny, scale, torch.ones_like(scale))
    square = x.square().sum(dim=-1, keepdim=True)  # (n, 1), in [1, d] or 0
    return x * torch.where(square > 0, square, torch.ones_like(square)).rsqrt()


class _LogAffinity(torch.autograd.Function):
    """logw = v^2 (z_i . z_j - 1) with the diagonal masked; the backward is one product with the symmetric part."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, v: Tensor) -> Tensor:
        vz = v * z  # (n, d)
        logw = torch.addmm(v * v, vz, vz.T, beta=-1.0)  # (n, n)
        logw.fill_diagonal_(MASKED)
        ctx.save_for_backward(z, v, logw)
        return logw

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        z, v, logw = ctx.saved_tensors
        with no_autocast(grad):
            # (n, n); copying first is four times faster than grad + grad.T
            both = grad.T.clone(memory_format=torch.contiguous_format).add_(grad)
            both.fill_diagonal_(0.0)
            grad_z = v * (both @ (v * z))  # (n, d)
            grad_v = ((both * logw).sum(dim=1) / v).sum() if ctx.needs_input_grad[1] else None
        return grad_z, grad_v


def log_norm(x: Tensor, p: Tensor) -> Tensor:
    """Row log-sum-exp of x (n, m), given its softmax p: max(x) - log max(p), two cheap passes."""
    return x.amax(dim=1) - p.amax(dim=1).log() if x.numel() else x.sum(dim=1)


class _LogSumExp(torch.autograd.Function):
    """Row log-sum-exp by way of one softmax, which the backward reuses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        p = torch.softmax(x, dim=1)  # (n, n)
        ctx.save_for_backward(p)
        return log_norm(x, p)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors
        return grad[:, None] * p


def logsumexp(x: Tensor) -> Tensor:
    """Log-sum-exp of each row, (n, m) to (n,); on a CPU much faster than torch's own if entries are far apart."""
    return _LogSumExp.apply(x)


class _LogShare(torch.autograd.Function):
    """log p_i = log sum_{j in mask_i} exp(x_ij) - log sum_j exp(x_ij), from one softmax."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        p = torch.softmax(x, dim=1)  # (n, n)
        share = torch.where(mask, p, 0.0).sum(dim=1)  # (n,)
        rest = torch.where(mask, 0.0, p).sum(dim=1)  # not 1 - share: more precise for a nearly certain row
        log_p = torch.where(share < 0.5, share.log(), torch.log1p(-rest))
        # rows whose share nearly underflows: their own softmax, in the log domain, keeps value and gradient
        far = (share < torch.finfo(x.dtype).tiny * 1e10).nonzero()[:, 0]  # (f,)
        own = x[far].masked_fill(~mask[far], MASKED)  # (f, n)
        inside = torch.softmax(own, dim=1)
        log_p[far] = log_norm(own, inside) - log_norm(x[far], p[far])
        ctx.save_for_backward(p, mask, share, rest, far, inside)
        return log_p

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        p, mask, share, rest, far, inside = ctx.saved_tensors
        odds = torch.where(share > 0, rest / torch.where(share > 0, share, 1.0), 0.0)  # (n,), 1 / share - 1
        grad_x = torch.where(mask, (grad * odds)[:, None], -grad[:, None]).mul_(p)  # (n, n)
        grad_x[far] = grad[far, None] * (inside - p[far])
        return grad_x, None


def log_share(x: Tensor, mask: Tensor) -> Tensor:
    """Log of the share of each row's softmax that lies inside the mask, exact however small the share is.

    Args:
        x: (n, m) logits.
        mask: (n, m) boolean; a row without any true entry gives about `MASKED`.

    Returns:
        (n,), each at most 0.
    """
    return _LogShare.apply(x, mask)


def log_affinity(z: Tensor, sigma: float | Tensor, k: int | None = None) -> Tensor:
    """Log of the Gaussian similarity of unit vectors, diagonal masked.

    Args:
        z: (n, d) rows of unit length, as `unit` returns them.
        sigma: bandwidth; a number, or a 0-d tensor, which may require a gradient.
        k: keep only edges to the k nearest neighbors, of either end (union, so symmetric). None keeps all.

    Returns:
        logw (n, n), symmetric, in the dtype of z; `MASKED` where there is no edge.

    Raises:
        ValueError: sigma is not positive, or k is below 1.
    """
    if not isinstance(sigma, Tensor) and not sigma > 0:
        raise ValueError(f"sigma must be a positive number, got {sigma}; good values lie between 0.1 and 0.5")
    v = 1.0 / torch.as_tensor(sigma, device=z.device, dtype=z.dtype)  # 0-d
    with no_autocast(z):
        logw: Tensor = _LogAffinity.apply(z, v)
    return logw if k is None else sparsify(logw, k)


def sparsify(logw: Tensor, k: int) -> Tensor:
    """Keep the edges to the k nearest neighbors of either end and mask the others.

    Args:
        logw: (n, n) symmetric log-similarity.
        k: neighbors per document, at least 1; more than n - 1 keeps everything.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(
            f"k must be a whole number, at least 1 neighbor per document, got {k!r}; None keeps every edge"
        )
    n = logw.shape[0]
    if k >= n - 1:
        return logw
    nearest = logw.detach().topk(k, dim=1).indices  # (n, k)
    keep = torch.zeros_like(logw, dtype=torch.bool).scatter_(1, nearest, True)  # (n, n)
    return logw.masked_fill(~(keep | keep.T), MASKED)


@torch.no_grad()
def components(edges: Tensor) -> Tensor:
    """Number the connected components of an undirected graph.

    Args:
        edges: (n, n) boolean, symmetric.

    Returns:
        (n,) the smallest node index of each node's component.
    """
    n = edges.shape[0]
    root = torch.arange(n, device=edges.device)
    linked = edges | torch.eye(n, dtype=torch.bool, device=edges.device)
    while n:
        smallest = torch.where(linked, root[None, :], n).amin(dim=1)  # (n,)
        smallest = smallest[smallest]
        if torch.equal(smallest, root):
            break
        root = smallest
    return root
