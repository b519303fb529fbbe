"""The tuned encoder averaged with the untouched one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Blend:
    """The tuned encoder moved back toward the untouched one: share · tuned + (1 - share) · untouched.

    With few labels that keeps more of what the encoder knew of other texts (Wortsman et al. 2022, "Robust fine-tuning
    of zero-shot models", equation 1). Training continues with the tuned weights; the blend is evaluated and kept.
    """

    def __init__(self, encoder: nn.Module, share: float) -> None:
        self.encoder, self.share = encoder, share
        self.untouched = {name: x.detach().clone() for name, x in self._floats().items()} if share < 1 else {}

    @torch.no_grad()
    def keep(self) -> None:
        """Blend the encoder's weights for good; nothing happens at a share of 1."""
        for name, tensor in self._floats().items():
            if name in self.untouched:
                tensor.lerp_(self.untouched[name].to(tensor.device), 1.0 - self.share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Blend in the context, then restore the tuned weights exactly."""
        tuned = {name: x.detach().clone() for name, x in self._floats().items()} if self.untouched else {}
        self.keep()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._floats().items():
                    if name in tuned:
                        tensor.copy_(tuned[name])

    def _floats(self) -> dict[str, torch.Tensor]:
        return {name: x for name, x in untied(self.encoder.state_dict()).items() if x.is_floating_point()}


def untied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor under the first of its names: tied weights are one, and safetensors refuses to write them twice."""
    first: dict[tuple[Any, ...], str] = {}
    for name, x in tensors.items():
        first.setdefault((x.data_ptr(), x.shape, x.stride()) if x.numel() else (name,), name)
    return {name: tensors[name] for name in first.values()}
