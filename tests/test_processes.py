"""Several processes do what one does: the same losses, gradients, weights and answers, and one of them speaks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Toy
from test_training import QUICK, Interrupt, same
from together import together
from torch import nn

from graphloss import processes
from graphloss.catalogue import build
from graphloss.config import LOSSES, TrainSettings
from graphloss.documents import Documents
from graphloss.encoder import encode, load
from graphloss.losses import Combined
from graphloss.model import GraphModel
from graphloss.training import Fitted, fit

pytestmark = pytest.mark.xdist_group("processes")  # they share the process that imports

CUTS = {2: [(0, 7, 12), (0, 12, 12)], 3: [(0, 3, 8, 12), (0, 5, 5, 12)]}
"""How two batches of twelve documents are divided; the second leaves one process nothing."""


class Line(nn.Module):
    """An encoder of one matrix, and a matrix that no document passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.idle, self.device = nn.Linear(10, 6), nn.Linear(3, 3), torch.device("cpu")

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": torch.tanh(self.words(features["x"]))}

    def get_embedding_dimension(self) -> int:
        return 6


def objectives() -> dict[str, nn.Module]:
    """Every loss, alone and beside cross-entropy, and G-Loss in the forms that remember, learn or measure."""
    weights = torch.tensor([0.5, 1.0, 1.5])
    found: dict[str, nn.Module] = {}
    for name, given in [(name, {}) for name in LOSSES] + [
        ("gloss", {"sigma": "learned", "memory": 2}),
        ("gloss", {"sigma": "perplexity", "memory": 3, "leave_out": "batch"}),
    ]:
        settings = vars(TrainSettings(loss=name, **given))
        loss = build(name, settings, num_classes=3, dimensions=6, class_weights=weights)
        title = " ".join([name, *map(str, given.values())])
        found[f"{title} combined"] = Combined(loss, 0.5, weights)
        if loss is not None:
            found[f"{title} alone"] = copy.deepcopy(loss)
    return found


def two_steps(cuts: list[tuple[int, ...]] | None) -> dict[str, Any]:
    """Losses, gradients, weights and memory of two steps with each objective, by the documents of this process."""
    found = {}
    for title, objective in objectives().items():
        torch.manual_seed(3)
        encoder, head = Line(), nn.Linear(6, 3) if isinstance(objective, Combined) else None
        model = GraphModel(encoder, head, objective)  # type: ignore[arg-type]
        wrapped: nn.Module = model
        if cuts is not None:
            wrap = nn.parallel.DistributedDataParallel
            wrap._set_params_and_buffers_to_ignore_for_model(model, list(dict(model.named_buffers())))
            wrapped = wrap(model, find_unused_parameters=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        steps = []
        for step in range(2):
            x, labels = torch.randn(12, 10), torch.arange(12) % 4 % 3 - (torch.arange(12) == 5).long() * 9
            labels, documents = labels.clamp_min(-1), (torch.randperm(20)[:12])
            mine = slice(0, 12) if cuts is None else slice(*cuts[step][processes.rank() :][:2])
            optimizer.zero_grad()
            loss = wrapped({"x": x[mine]}, labels[mine], documents[mine])["loss"]
            loss.backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            steps.append({"loss": loss.detach(), **gradients})
            optimizer.step()
        found[title] = [*steps, {name: x.clone() for name, x in model.state_dict().items()}]
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_every_loss_has_the_gradients_and_weights_of_one_process(count: int, tmp_path: Path) -> None:
    alone, found = two_steps(None), together(count, two_steps, tmp_path, CUTS[count])
    assert len(alone) == 17
    for title, expected in alone.items():
        moved = 0
        for place in range(3):  # two steps, then what is left
            for name, x in expected[place].items():
                for other in found:
                    torch.testing.assert_close(other[title][place][name], x, rtol=2e-5, atol=2e-6, msg=f"{title} {name}")
                if ".memory." in name or place == 0:
                    assert all(torch.equal(other[title][place][name], found[0][title][place][name]) for other in found)
            moved += sum(bool(x.abs().max() > 1e-4) for name, x in expected[place].items() if "words" in name)
        assert moved >= 6, title
