"""The guarantees of the sampler, over all kinds of class sizes, and with the loss that it is for."""

import itertools
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from graphloss.losses.functional import gloss
from graphloss.training.batches import ClassAwareBatchSampler

class_sizes = st.lists(st.one_of(st.integers(1, 4), st.integers(1, 120)), max_size=12)


def labels_of(sizes: list[int], seed: int = 0) -> list[int]:
    labels = np.array([c for c, size in enumerate(sizes) for _ in range(size)], dtype=int)
    return np.random.default_rng(seed).permutation(labels).tolist()


def zipf(n: int, classes: int, power: float) -> list[int]:
    share = 1 / np.arange(1, classes + 1) ** power
    return np.random.default_rng(0).choice(classes, n, p=share / share.sum()).tolist()


def composition(labels: list[int], batches: list[list[int]]) -> list[Counter]:
    return [Counter(labels[i] for i in batch) for batch in batches]


def alone(labels: list[int], batches: list[list[int]]) -> int:
    """Documents that are the only one of their class in the batch, though the class has others."""
    sizes = Counter(labels)
    return sum(count == 1 and sizes[c] > 1 for batch in composition(labels, batches) for c, count in batch.items())


def single(labels: list[int], batches: list[list[int]]) -> int:
    return sum(len(batch) == 1 for batch in composition(labels, batches))


@given(class_sizes, st.integers(1, 70), st.integers(0, 3), st.integers(0, 3))
def test_every_document_once_in_near_equal_batches(sizes, batch_size, seed, epoch):
    labels = labels_of(sizes)
    sampler = ClassAwareBatchSampler(labels, batch_size, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(len(labels)))
    assert len(batches) == len(sampler) == -(-len(labels) // batch_size)
    lengths = [len(batch) for batch in batches]
    assert max(lengths, default=0) <= batch_size
    if batches:
        assert max(lengths) - min(lengths) <= 8
        assert min(lengths) >= min(len(labels), max(1, len(labels) // len(batches) - 4))
    assert batches == list(sampler)  # a function of labels, seed and epoch


@given(st.lists(st.integers(10, 120), min_size=3, max_size=12), st.integers(16, 70), st.integers(0, 3))
def test_few_are_alone_among_classes_of_some_size(sizes, batch_size, seed):
    labels = labels_of(sizes)
    batches = list(ClassAwareBatchSampler(labels, batch_size, seed=seed))
    blind = np.array_split(np.random.default_rng(seed).permutation(len(labels)), len(batches))
    assert alone(labels, batches) <= max(len(batches), alone(labels, [batch.tolist() for batch in blind]) // 4)


@pytest.mark.parametrize(
    ("labels", "batch_size"),
    [
        (zipf(5865, 52, 2.0), 32),
        (zipf(5888, 52, 2.0), 128),  # full batches, no room at a cut
        (zipf(9984, 77, 0.0), 32),
        (zipf(3021, 23, 1.0), 64),
        (labels_of([8] * 77), 32),
        (labels_of([2] * 500), 32),
        (labels_of([2] * 496), 33),  # full batches would be odd: shorter ones are even
        (labels_of([3] * 484), 33),
    ],
)
def test_typical_corpora_have_hardly_anybody_alone(labels, batch_size):
    sampler = ClassAwareBatchSampler(labels, batch_size)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert alone(labels, batches) <= 0.005 * len(labels)
        assert single(labels, batches) == 0
        assert max(map(len, batches)) <= batch_size


def test_epochs_and_seeds_differ():
    labels = labels_of([30, 20, 10])
    seen = set()
    for seed, epoch in itertools.product(range(3), range(3)):
        sampler = ClassAwareBatchSampler(labels, 16, seed=seed)
        sampler.set_epoch(epoch)
        seen.add(str(list(sampler)))
    assert len(seen) == 9


def test_groups_of_a_class():
    labels = labels_of([64] * 32)
    for given_size, expected in ((None, 8), (4, 4), (16, 16)):
        sampler = ClassAwareBatchSampler(labels, 128, group_size=given_size)
        counts = [count for batch in composition(labels, list(sampler)) for count in batch.values()]
        assert sampler.group_size == expected
        assert expected - 1 <= np.median(counts) <= expected + 2


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0, 0, 0], [0, 1], list(range(9))])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_corner_cases(labels, batch_size):
    batches = list(ClassAwareBatchSampler(labels, batch_size))
    assert sorted(itertools.chain(*batches)) == list(range(len(labels)))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 4, "group_size": 0}])
def test_impossible_arguments(options):
    with pytest.raises(ValueError, match="expected batch_size and group_size >= 1"):
        ClassAwareBatchSampler([0, 1], **options)
    with pytest.raises(ValueError, match="got -1"):
        ClassAwareBatchSampler([0, -1], 4)


@pytest.mark.parametrize(
    ("classes", "power", "batch_size"), [(77, 0.0, 128), (77, 0.0, 32), (77, 1.0, 32), (2, 6.0, 32)]
)
def test_a_hundred_thousand_documents_take_about_a_second(classes, power, batch_size):
    labels = zipf(100_000, classes, power)
    sampler = ClassAwareBatchSampler(labels, batch_size)
    start = time.perf_counter()
    assert sum(map(len, sampler)) == 100_000
    assert time.perf_counter() - start < 5  # measured: 0.2 to 0.8


@pytest.mark.parametrize(
    ("labels", "batch_size"),
    [
        (zipf(600, 52, 1.5), 32),
        (labels_of([300, 6, 5, 4]), 16),
        (labels_of([8] * 20), 32),
        (labels_of([2] * 40), 8),
        (labels_of([40, 40]), 4),
    ],
)
def test_every_batch_gives_the_loss_a_gradient(labels, batch_size):
    generator = torch.Generator().manual_seed(0)
    sizes = Counter(labels)
    others = len(labels) - max(sizes.values())
    seen = 0
    for batch in ClassAwareBatchSampler(labels, batch_size):
        known = Counter(labels[i] for i in batch)
        if not any(count > 1 for count in known.values()) or len(known) < 2:
            continue  # counted below: a batch that the class sizes do not allow to be better
        embeddings = torch.randn(len(batch), 16, generator=generator, requires_grad=True)
        loss = gloss(embeddings, torch.tensor([labels[i] for i in batch]), sigma=0.3).loss
        loss.backward()
        assert embeddings.grad is not None
        assert torch.isfinite(embeddings.grad).all()
        assert embeddings.grad.norm() > 1e-4
        seen += 1
    assert seen >= min(len(labels) // batch_size, others // 2)


def test_it_works_in_a_data_loader_and_through_accelerate():
    accelerate = pytest.importorskip("accelerate")
    labels = labels_of([30, 20, 10])
    sampler = ClassAwareBatchSampler(labels, 16)
    loader = accelerate.Accelerator(cpu=True).prepare(DataLoader(torch.arange(len(labels)), batch_sampler=sampler))
    for epoch in range(2):
        loader.set_epoch(epoch)
        seen = [batch.tolist() for batch in loader]
        assert sampler.epoch == epoch
        assert seen == list(sampler)
