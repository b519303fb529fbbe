"""Gradient caching: the exact loss and gradient of one large batch, in the memory of a piece of it.

A loss on a graph needs the embeddings of all its documents at once, but not the activations that made them. So each
piece of the batch is embedded and its activations are dropped; the loss and its gradient at the embeddings are those
of the whole batch; on the way back each piece is embedded once more, with the random numbers of the first time, and
what comes down to its embeddings goes on into the encoder (Gao et al. 2021, "Scaling deep contrastive learning batch
size under memory limited setup", section 3). It costs one more forward pass.

That is activation checkpointing at the bounds of the pieces, so `torch.utils.checkpoint` does it: autograd goes back
through the pieces one after another, last first, and frees one before it embeds the next. Nothing is approximated, and
nothing else need know: a loss with parameters of its own, accumulated batches, autocast, a gradient scaler and a
distributed wrapper see an ordinary backward pass. The random stream is left where an uncached pass leaves it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_pieces(embed: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """Embed the rows of a batch piece by piece, keeping the activations of no piece.

    Args:
        embed: row indices (p,) -> embeddings (p, d); called twice with each piece. Of what it uses, only the rows may
            change from piece to piece.
        rows: (n,) row indices, on the device that computes: its random state is the one that is replayed, beside the
            CPU's.
        size: rows of a piece, at least 1.

    Returns:
        Embeddings (n, d) in the order of `rows`, with the gradient of `embed(rows)`.
    """

    def afresh(piece: Tensor) -> Tensor:
        # Else all pieces would share the weights that autocast made small, and their gradients be summed in bfloat16.
        torch.clear_autocast_cache()
        return embed(piece)

    return torch.cat([checkpoint(afresh, piece, use_reentrant=False) for piece in rows.split(size)])
