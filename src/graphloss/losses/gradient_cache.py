"""Gradient caching: the exact loss and gradient of a large batch, in the memory of one piece of it.

A loss on a graph needs the embeddings of all its documents at once, but not the activations behind them. Each piece of
the batch is embedded and its activations are dropped. The loss and its gradient at the embeddings are those of the
whole batch. In the backward pass each piece is embedded again, with the same random numbers, and its gradient goes into
the encoder (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup", section 3). The
cost is one more forward pass.

This is activation checkpointing per piece, by `torch.utils.checkpoint`: autograd goes through the pieces from the last
to the first and frees one before it recomputes the next. Losses with parameters, accumulated batches, autocast,
gradient scalers and distributed wrappers see an ordinary backward pass. The random state afterward is that of an
uncached pass.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_pieces(embed: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """Embed the rows of a batch piece by piece, without keeping activations.

    Args:
        embed: row indices (p,) -> embeddings (p, d); called twice with each piece, so it must depend on nothing else
            that changes.
        rows: (n,) row indices, on the device that computes: its random state is replayed, and the CPU's.
        size: rows per piece, at least 1.

    Returns:
        Embeddings (n, d) in the order of `rows`, with the gradient of `embed(rows)`.
    """

    def embed_piece(piece: Tensor) -> Tensor:
        # Otherwise all pieces would share autocast's low-precision weights, whose gradients are summed in bfloat16.
        torch.clear_autocast_cache()
        return embed(piece)

    return torch.cat([checkpoint(embed_piece, piece, use_reentrant=False) for piece in rows.split(size)])
