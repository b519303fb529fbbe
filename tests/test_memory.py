"""The memory: what its rings hold, and G-Loss in a graph that reaches beyond the batch."""

import os
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from strategies import Batch, batch, batches, quick
from torch import Tensor

from graphloss.losses.functional import GLossResult, gloss
from graphloss.losses.graph import MASKED, unit
from graphloss.losses.memory_bank import TILE, UNKNOWN, Boundary, Memory, check_size, log_mass
from graphloss.losses.modules import Combined, GLoss


def boundary(embeddings: Tensor, labels: Tensor, num_classes: int, each: int = 8, hidden: int = 2) -> Boundary:
    """Rings with gaps: places that are not shown hold embeddings that must not count."""
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(num_classes, each + hidden, embeddings.shape[1], generator=generator, dtype=torch.float64)
    shown = torch.zeros(num_classes, each + hidden, dtype=torch.bool)
    for c in range(num_classes):
        mine = unit(embeddings.double())[labels == c]
        places = torch.randperm(each + hidden, generator=generator)[: len(mine)]
        z[c, places], shown[c, places] = mine, True
    return Boundary(unit(z).to(embeddings.dtype), shown)


def parts(b: Batch, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch of `count` documents, and the labeled ones of the rest to remember."""
    rest = torch.arange(len(b.labels)) >= count
    rest &= b.labels >= 0
    return b.embeddings[:count], b.labels[:count], b.embeddings[rest], b.labels[rest]


def case(seed: int = 3, unlabeled: float = 0.4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    b = batch(40, 4, unlabeled=unlabeled, seed=seed, spread=1.5, dtype=dtype)
    x, y, remembered, kinds = parts(b, 16)
    kept = kinds != 3  # of class 3 nothing is remembered
    return x, y, remembered[kept], kinds[kept]


class TestOracles:
    @pytest.mark.parametrize("q", [0.0, 0.6])
    @pytest.mark.parametrize("unlabeled", [0.0, 0.4])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
    def test_one_graph_of_batch_and_memory(
        self, q: float, unlabeled: float, dtype: torch.dtype, tolerance: float
    ) -> None:
        x, y, remembered, kinds = case(unlabeled=unlabeled, dtype=dtype)
        weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
        leaf = x.double().clone().requires_grad_()
        f = oracles.with_memory(leaf, y, remembered, kinds, 0.3, 4)
        total, norm = leaf.new_zeros(()), 0.0
        anchors = []
        for i, c in enumerate(y.tolist()):
            others = (kinds == c).sum() + (y == c).sum() - 1
            anchors.append(c >= 0 and int(others) > 0)
            if anchors[-1]:
                p, w = f[i, c], float(weights[c])
                total, norm = total + w * (-p.log() if q == 0 else (1 - p**q) / q), norm + w
        (expected,) = torch.autograd.grad(total / norm, leaf)
        mine = x.clone().requires_grad_()
        result = gloss(
            mine,
            y,
            sigma=0.3,
            q=q,
            class_weights=weights.to(dtype),
            memory=boundary(remembered, kinds, 4),
        )
        result.loss.backward()
        assert result.anchors.tolist() == anchors
        assert sum(anchors) > 0
        assert float(result.coverage) == pytest.approx(sum(anchors) / int((y >= 0).sum()))
        assert float(result.loss.detach()) == pytest.approx(float((total / norm).detach()), rel=tolerance)
        assert expected.norm() > 0
        assert (mine.grad.double() - expected).norm() / expected.norm() < tolerance
        if unlabeled:  # hidden documents carry labels on, so they feel the loss too
            assert (mine.grad.norm(dim=1) > 0).all()

    def test_gradients(self) -> None:
        x, y, remembered, kinds = case()
        kept = boundary(remembered, kinds, 4)
        leaf, sigma = x[:8].clone().requires_grad_(), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

        def loss(z: Tensor, s: Tensor) -> Tensor:
            return gloss(z, y[:8], sigma=s, memory=kept).loss

        assert torch.autograd.gradcheck(loss, (leaf, sigma))
        loss(leaf, sigma).backward()
        assert leaf.grad.norm() > 0 and sigma.grad.abs() > 0

    def test_the_mass_of_a_class(self) -> None:
        x, _, remembered, kinds = case()
        z = unit(x).requires_grad_()
        sigma = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        kept = boundary(remembered, kinds, 4)
        mass = log_mass(z, kept, sigma)
        for c in range(3):
            w = ((z @ unit(remembered)[kinds == c].T - 1) / 0.09).exp().sum(1)
            assert torch.allclose(mass[:, c], w.log(), rtol=1e-9)
        assert (mass[:, 3] == MASKED).all()
        assert torch.autograd.gradcheck(lambda z, s: log_mass(z, kept, s)[:, :3], (z, sigma))

    @pytest.mark.parametrize("tile", [1, 300])
    def test_classes_in_tiles_are_as_all_together(self, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
        x, _, remembered, kinds = case()
        kept, weight = boundary(remembered, kinds, 4), torch.randn(len(x), 3, dtype=torch.float64)
        found = []
        for size in (TILE, tile):
            monkeypatch.setattr("graphloss.losses.memory_bank.TILE", size)
            leaf = unit(x).requires_grad_()
            mass = log_mass(leaf, kept, 0.3)
            (mass[:, :3] * weight).sum().backward()
            found.append((mass.detach(), leaf.grad))
        assert len(x) * kept.shown.numel() > tile and found[0][1].norm() > 0
        torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)

    @quick
    @given(batches())
    def test_what_is_remembered_counts_like_what_is_in_the_batch(self, b: Batch) -> None:
        half = len(b.labels) // 2
        x, y, remembered, kinds = parts(b, half)
        whole = gloss(torch.cat([x, remembered]), torch.cat([y, kinds]), sigma=b.sigma)
        kept = boundary(remembered, kinds, b.num_classes, each=40)
        result = gloss(x, y, sigma=b.sigma, memory=kept)
        assert torch.equal(result.anchors, whole.anchors[:half])
        assert torch.allclose(result.log_p, whole.log_p[:half], rtol=1e-6, atol=1e-9)

    @quick
    @given(batches())
    def test_order_names_and_rotation_change_nothing(self, b: Batch) -> None:
        x, y, remembered, kinds = parts(b, len(b.labels) // 2)
        d = x.shape[1]
        rename = torch.randperm(b.num_classes, generator=b.generator)
        order = torch.randperm(len(y), generator=b.generator)
        turn, _ = torch.linalg.qr(torch.randn(d, d, generator=b.generator, dtype=torch.float64))
        renamed = torch.where(y >= 0, rename[y.clamp_min(0)], -1)
        one = gloss(x, y, sigma=b.sigma, memory=boundary(remembered, kinds, b.num_classes, 40))
        kept = boundary((remembered @ turn).flip(0), rename[kinds].flip(0), b.num_classes, 40)
        two = gloss((x @ turn)[order], renamed[order], sigma=b.sigma, memory=kept)
        assert torch.equal(one.anchors[order], two.anchors)
        assert torch.allclose(one.log_p[order], two.log_p, rtol=1e-6, atol=1e-8)


class TestDegenerate:
    @pytest.mark.parametrize("unlabeled", [0.0, 0.4])
    def test_an_empty_memory_is_the_plain_loss(self, unlabeled: float) -> None:
        b = batch(20, 3, unlabeled=unlabeled, dtype=torch.float32)
        x, twin = b.embeddings.clone().requires_grad_(), b.embeddings.clone().requires_grad_()
        plain = GLoss(sigma=0.3)(x, b.labels)
        loss = GLoss(sigma=0.3, memory=Memory(3, 4, 16))
        value = loss(twin, b.labels, torch.arange(20))
        plain.backward()
        value.backward()
        assert torch.equal(plain, value) and float(plain.detach()) > 0
        assert torch.equal(x.grad, twin.grad) and x.grad.norm() > 0

    @pytest.mark.parametrize(
        ("labels", "anchors"),
        [([], 0), ([-1], 0), ([-1] * 5, 0), ([2], 0), ([0], 1), ([0, 1, 2], 2), ([0, -1, -1], 1)],
        ids=["n = 0", "n = 1, unlabeled", "all unlabeled", "class absent", "n = 1", "one per class", "one label"],
    )
    def test_small_batches(self, labels: list[int], anchors: int) -> None:
        x = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
        kept = boundary(torch.randn(9, 6), torch.tensor([0] * 5 + [1] * 4), 3)
        result = gloss(x, torch.tensor(labels, dtype=torch.long), sigma=0.3, memory=kept)
        result.loss.backward()
        assert int(result.anchors.sum()) == anchors
        assert (float(result.loss.detach()) > 0) == (anchors > 0)
        assert torch.isfinite(x.grad).all() and (x.grad.norm() > 0) == (anchors > 0)

    @pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.3, 5.0])
    @pytest.mark.parametrize("what", ["clusters", "duplicates", "zero vector", "remembered exactly"])
    def test_answer_and_gradient_are_finite(self, sigma: float, what: str) -> None:
        b = batch(48, 4, spread=0.3, unlabeled=0.3, dtype=torch.float32)
        x, y, remembered, kinds = parts(b, 24)
        x = x.clone()
        if what == "duplicates":
            x[:12] = x[0]
        elif what == "zero vector":
            x[3] = 0
        elif what == "remembered exactly":
            x[:6] = remembered[:6]
        lost = int((y == 1).nonzero()[0, 0])
        y[lost] = 2  # a wrong label amid another class: p underflows, its gradient must not
        x.requires_grad_()
        result = gloss(x, y, sigma=sigma, memory=boundary(remembered, kinds, 4, each=12))
        result.loss.backward()
        assert torch.isfinite(result.loss) and torch.isfinite(x.grad).all()
        assert what != "clusters" or x.grad[lost].norm() > 0

    def test_the_gradient_lives_where_p_is_below_the_smallest_float32(self) -> None:
        kept = boundary(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), 2, each=1, hidden=0)
        x = torch.tensor([[1.0, 0.01]]).requires_grad_()
        result = gloss(x, torch.tensor([1]), sigma=0.05, memory=kept)
        result.loss.backward()
        assert float(result.loss.detach()) == pytest.approx(0.99 / 0.0025, rel=1e-2)
        assert x.grad.norm() > 1

    def test_half_precision_and_autocast(self) -> None:
        x, y, remembered, kinds = case(dtype=torch.float32)
        kept = boundary(remembered, kinds, 4)
        leaf = x.bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = gloss(leaf, y, sigma=0.3, memory=kept).loss
        loss.backward()
        assert loss.dtype == torch.float32
        exactly = gloss(x.bfloat16().float(), y, sigma=0.3, memory=kept).loss
        assert float(loss.detach()) == pytest.approx(float(exactly), rel=1e-6)
        assert leaf.grad.float().norm() > 0


class TestRing:
    @quick
    @given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
    def test_it_holds_what_queues_hold(self, classes: int, each: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        memory, rings = Memory(classes, each, 4), oracles.Rings(classes, each)
        for _ in range(6):
            n = int(torch.randint(0, 14, (1,), generator=g))
            documents = torch.randint(-1, 16, (n,), generator=g)  # some twice in a batch, some that never come again
            labels = torch.where(documents < 0, torch.randint(0, classes, (n,), generator=g), documents % classes)
            labels[torch.rand(n, generator=g) < 0.2] = -1
            z = torch.randn(n, 4, generator=g)
            memory.add(z, labels, documents)
            rings.add(z, labels, documents)
            embeddings, kinds = memory.remembered()
            assert kinds.tolist() == [c for c, queue in enumerate(rings.queues) for _ in queue]
            for c, queue in enumerate(rings.queues):
                rows = {tuple(row) for row in embeddings[kinds == c].tolist()}
                for _, z_old in queue:
                    nearest = min(rows, key=lambda row: float((torch.tensor(row) - z_old).norm()))
                    torch.testing.assert_close(torch.tensor(nearest), z_old)
                    rows.discard(nearest)
                known = memory.documents[c][memory.documents[c] >= 0].tolist()
                assert sorted(known) == sorted(entry[0] for entry in queue if entry[0] >= 0)

    def test_of_more_than_a_ring_holds_the_last_stay(self) -> None:
        memory = Memory(3, 4, 2)
        z = torch.randn(23, 2)
        memory.add(z[:2], torch.tensor([1, 1]), torch.tensor([50, 51]))
        memory.add(z[2:], torch.ones(21, dtype=torch.long), torch.arange(21))
        assert sorted(memory.documents[1].tolist()) == [17, 18, 19, 20]
        embeddings, labels = memory.remembered()
        assert labels.tolist() == [1] * 4
        torch.testing.assert_close(embeddings.sum(0), unit(z[-4:]).sum(0))

    def test_an_overflow_is_not_remembered(self) -> None:
        memory = Memory(2, 4, 3)
        z = torch.randn(4, 3)
        z[1, 2], z[2, 0] = torch.nan, torch.inf
        memory.add(z, torch.tensor([0, 0, 1, 1]), torch.arange(4))
        assert memory.remembered()[1].tolist() == [0, 1]
        assert torch.isfinite(memory.embeddings).all()

    def test_the_state_goes_on_exactly(self, tmp_path: Path) -> None:
        b = batch(60, 3, d=8, dtype=torch.float32)
        documents = torch.arange(60)

        def fresh() -> GLoss:
            return GLoss(sigma=0.3, memory=Memory(3, 5, 8))

        def steps(loss: GLoss, start: int) -> list[float]:
            picks = [torch.arange(i, i + 12) % 60 for i in range(start, start + 50, 7)]
            return [float(loss(b.embeddings[rows], b.labels[rows], documents[rows])) for rows in picks]

        loss, twin = fresh(), fresh()
        steps(loss, 0)
        save_file(loss.state_dict(), tmp_path / "loss.safetensors")
        twin.load_state_dict(load_file(tmp_path / "loss.safetensors"))
        values = steps(loss, 20)
        assert values == steps(twin, 20) and len(set(values)) > 4
        assert values != steps(fresh(), 20)

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ((0, 4, 8), "at least 1, got 0, 4 and 8"),
            ((3, 0, 8), "at least 1"),
            ((77, 20_000, 384), "takes 2.2 GiB .* remember at most 9,078 documents per class"),
            ((10**9, 1, 384), "too many classes for a memory"),
        ],
    )
    def test_sizes_that_are_refused(self, sizes: tuple[int, int, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Memory(*sizes)
        check_size(77, 9_078, 384)
        with pytest.raises(ValueError, match="more than 1 GiB"):
            check_size(77, 9_079, 384)

    @pytest.mark.parametrize(
        ("embeddings", "labels", "documents", "message"),
        [
            (torch.randn(3, 5), torch.zeros(3).long(), torch.arange(3), r"takes embeddings \(3, 4\), got \(3, 5\)"),
            (torch.randn(2, 4), torch.zeros(3).long(), torch.arange(3), r"takes embeddings \(3, 4\)"),
            (torch.randn(3, 4), torch.zeros(3), torch.arange(3), "labels must be whole numbers"),
            (torch.randn(3, 4), torch.zeros(3).long(), torch.arange(2), "documents must be whole numbers"),
            (torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.arange(3), "label 2 is out of range: .* 2 classes"),
        ],
    )
    def test_bad_batches(self, embeddings: Tensor, labels: Tensor, documents: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Memory(2, 3, 4).add(embeddings, labels, documents)


class TestIdentity:
    """What is remembered of a document never answers for it."""

    def filled(self, b: Batch, labels: Tensor, numbers: Tensor) -> Memory:
        memory = Memory(b.num_classes, 40, b.embeddings.shape[1]).double()
        memory.add(b.embeddings, labels, numbers)
        return memory

    def test_a_document_is_looked_for_in_the_ring_of_its_class_alone(self) -> None:
        memory = Memory(3, 4, 2)
        numbers = torch.tensor([5, 6, 5, UNKNOWN, 9])
        memory.add(torch.randn(5, 2), torch.tensor([0, 0, 1, 1, 2]), numbers)  # 5 stands twice: the last one counts
        rows, places = memory._found(torch.tensor([1, 0, 2, 1, 0]), torch.tensor([5, 5, 9, UNKNOWN, 6]))
        assert rows.tolist() == [0, 2, 4] and places.tolist() == [0, 0, 0]
        shown = memory.boundary(torch.tensor([0, -1]), torch.tensor([6, 9])).shown
        assert shown.sum(dim=1).tolist() == [0, 2, 1]

    def test_a_batch_sees_nothing_of_its_own_documents(self) -> None:
        b = batch(60, 3, unlabeled=0.2, spread=2.0)
        rows, others = torch.arange(20), torch.arange(20, 60)
        x, y = b.embeddings[:20], b.labels[:20]

        def result(memory: Memory, numbers: Tensor) -> GLossResult:
            return gloss(x, y, sigma=0.3, memory=memory.boundary(y, numbers))

        whole = self.filled(b, b.labels, torch.arange(60))
        without = self.filled(b._replace(embeddings=b.embeddings[others]), b.labels[others], others)
        clean, expected = result(whole, rows), result(without, rows)
        torch.testing.assert_close(clean.log_p, expected.log_p)
        assert float(clean.loss) > 0.3
        leaked = result(whole, torch.full((20,), UNKNOWN))  # without its number, a document sees its own label
        assert float(leaked.loss) < 0.5 * float(clean.loss)

    def test_writing_the_memory_leaves_the_gradient_alone(self) -> None:
        b = batch(40, 3, dtype=torch.float32)
        loss = GLoss(sigma=0.3, memory=Memory(3, 6, 16))
        loss(b.embeddings, b.labels, torch.arange(40))
        kept = loss.memory.boundary(b.labels, torch.arange(40) + 100)
        frozen = Boundary(kept.embeddings.clone(), kept.shown)
        x, twin = b.embeddings.flip(0).clone().requires_grad_(), b.embeddings.flip(0).clone().requires_grad_()
        labels = b.labels.flip(0)
        first = loss(x, labels, torch.arange(40) + 100)  # overwrites what it has just looked at
        loss(torch.randn(40, 16), labels, torch.arange(40) + 200)
        first.backward()
        gloss(twin, labels, sigma=0.3, memory=frozen).loss.backward()
        assert not torch.equal(frozen.embeddings, loss.memory.embeddings)
        assert torch.equal(x.grad, twin.grad) and x.grad.norm() > 0


class TestModule:
    def test_coverage_is_whole_at_any_batch_size(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(40), np.maximum(2, (400 / (1 + np.arange(40)) ** 1.3).astype(int)))
        labels = torch.tensor(rng.permutation(labels))
        before, after = coverages(labels, size=16, each=8)
        assert before.mean() < 0.9
        assert (after == 1.0).all() and len(after) > 50

    @pytest.mark.skipif(not os.environ.get("GRAPHLOSS_DATA"), reason="GRAPHLOSS_DATA names no folder of research data")
    @pytest.mark.parametrize("name", ["r52", "ohsumed"])
    def test_coverage_on_data_sets_with_many_small_classes(self, name: str) -> None:
        from graphloss.text.corpus import load_corpus

        _, kinds, sizes = np.unique(load_corpus(name).train.labels, return_inverse=True, return_counts=True)
        # no graph reaches the only document of a class, of which R52's training split has four
        labels = torch.tensor(np.where(sizes[kinds] > 1, kinds, -1))
        assert 0 <= int((labels < 0).sum()) <= 4
        before, after = coverages(labels, size=32, each=4)
        assert before.mean() < 0.9
        assert (after == 1.0).all() and len(after) > 90

    @pytest.mark.parametrize("sigma", ["auto", "root", "mst", "learned", 0.4])
    def test_every_bandwidth(self, sigma: float | str) -> None:
        b = batch(48, 3, spread=1.5, unlabeled=0.2, dtype=torch.float32)
        loss = GLoss(sigma=sigma, memory=Memory(3, 6, 16))
        loss(b.embeddings[24:], b.labels[24:], torch.arange(24, 48))
        for p in loss.parameters():
            p.grad = None
        x = b.embeddings[:24].clone().requires_grad_()
        value = loss(x, b.labels[:24], torch.arange(24))
        value.backward()
        plain = GLoss(sigma=0.3)(b.embeddings[:24], b.labels[:24])
        assert torch.isfinite(value) and float(value.detach()) != float(plain)
        assert torch.isfinite(x.grad).all() and x.grad.norm() > 0
        assert all(p.grad.abs() > 0 for p in loss.parameters())
        assert len(list(loss.parameters())) == (sigma == "learned")

    def test_it_is_written_in_training_alone_and_takes_no_gradient(self) -> None:
        b = batch(24, 3, dtype=torch.float32)
        loss = GLoss(memory=Memory(3, 6, 16))
        loss(b.embeddings.requires_grad_(), b.labels, torch.arange(24)).backward()
        state = {name: x.clone() for name, x in loss.state_dict().items()}
        assert len(loss.memory.remembered()[1]) == 18 and not loss.memory.embeddings.requires_grad
        loss.eval()
        value = loss(b.embeddings, b.labels, torch.arange(24) + 50)
        assert all(torch.equal(x, state[name]) for name, x in loss.state_dict().items())
        assert float(value.detach()) != float(GLoss()(b.embeddings, b.labels).detach())

    def test_combined_tells_the_loss_which_documents_these_are(self) -> None:
        b = batch(24, 3, dtype=torch.float32)
        combined = Combined(GLoss(memory=Memory(3, 6, 16)))
        combined(b.embeddings, torch.randn(24, 3), b.labels, torch.arange(24))
        assert sorted(combined.graph_loss.memory.documents.flatten().tolist()) == sorted(
            i for c in range(3) for i in (b.labels == c).nonzero()[-6:, 0].tolist()
        )
        Combined(GLoss())(b.embeddings, torch.randn(24, 3), b.labels, torch.arange(24))

    def test_without_numbers_it_refuses(self) -> None:
        b = batch(8, 2, dtype=torch.float32)
        with pytest.raises(ValueError, match="needs the number of each document"):
            GLoss(memory=Memory(2, 4, 16))(b.embeddings, b.labels)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": 0.9}, "a memory needs alpha = 1 and no k"),
            ({"k": 5}, "a memory needs alpha = 1 and no k"),
            ({"mode": "paper"}, 'a memory belongs to mode "loo"'),
        ],
    )
    def test_bad_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            GLoss(**({"memory": Memory(2, 4, 16)} | options))

    def test_a_memory_that_does_not_fit_the_batch(self) -> None:
        kept = Boundary(torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.bool))
        with pytest.raises(ValueError, match="the memory has 5 dimensions, the embeddings 4"):
            gloss(torch.randn(2, 4), torch.tensor([0, 1]), sigma=0.3, memory=kept)
        with pytest.raises(ValueError, match="label 2 is out of range"):
            gloss(torch.randn(2, 5), torch.tensor([0, 2]), sigma=0.3, memory=kept)


def coverages(labels: Tensor, size: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of each batch of the second epoch, drawn blindly, without a memory and with one."""
    generator = torch.Generator().manual_seed(0)
    memory = Memory(int(labels.max()) + 1, each, 8)
    x = torch.randn(len(labels), 8, generator=generator)
    before, after = [], []
    for epoch in range(2):
        for rows in torch.randperm(len(labels), generator=generator).split(size):
            y = labels[rows]
            if epoch:
                before.append(float(gloss(x[rows], y, sigma=0.3).coverage))
                after.append(float(gloss(x[rows], y, sigma=0.3, memory=memory.boundary(y, rows)).coverage))
            memory.add(x[rows], y, rows)
    return np.array(before), np.array(after)
