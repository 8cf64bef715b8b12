"""Random streams: equal for equal arguments, different for any other."""

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.seeds import borrowed_generator, derive, numpy_generator, torch_generator

Stream = tuple[int, str, str, int]
UNHURRIED = settings(deadline=None)  # a busy machine is no failure
STREAMS = st.tuples(
    st.integers(0, 2**40),
    st.text(max_size=12),
    st.text(max_size=12),
    st.integers(0, 10**6),
)


@UNHURRIED
@given(STREAMS, STREAMS)
@example((1, "a", "", 0), (11, "a", "", 0))
@example((1, "a", "", 11), (1, "a", "1", 1))
@example((0, "ab", "c", 0), (0, "a", "bc", 0))
@example((0, "a", "b/0", 0), (0, "a", "b", 0))
@example((0, "a/b", "c", 0), (0, "a", "b/c", 0))
def test_a_seed_depends_on_all_four_arguments(one: Stream, other: Stream) -> None:
    assert derive(*one) == derive(*one)
    assert 0 <= derive(*one) < 2**63
    assert (derive(*one) == derive(*other)) == (one == other)


@UNHURRIED
@given(STREAMS)
def test_changing_one_argument_changes_the_seed(stream: Stream) -> None:
    seed, purpose, site, server_round = stream
    variants = {
        stream,
        (seed + 1, purpose, site, server_round),
        (seed, purpose + "x", site, server_round),
        (seed, purpose, site + "x", server_round),
        (seed, purpose, site, server_round + 1),
    }
    assert len({derive(*variant) for variant in variants}) == 5


def test_no_two_streams_of_a_run_are_equal() -> None:
    seeds = [
        derive(seed, purpose, f"site-{site:02d}", server_round)
        for seed in range(3)
        for purpose in ("batches", "augmentation", "weights")
        for site in range(20)
        for server_round in range(50)
    ]
    assert len(set(seeds)) == len(seeds)


def test_numpys_integers_name_the_same_stream() -> None:
    assert derive(int(np.int64(3)), "x") == derive(np.int64(3), "x", "", np.int32(0))  # type: ignore[arg-type]


@UNHURRIED
@given(STREAMS)
def test_generators_start_where_their_seed_says(stream: Stream) -> None:
    def numbers() -> list[float]:
        return [
            *numpy_generator(*stream).random(4),
            *torch.rand(4, generator=torch_generator(*stream)).tolist(),
        ]

    assert numbers() == numbers()
    assert torch_generator(*stream).initial_seed() == derive(*stream)
    assert torch_generator(*stream).device.type == "cpu"


def test_generators_leave_the_global_ones_alone() -> None:
    ours, torchs = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # type: ignore[index]
    numpy_generator(0, "x").random(3)
    torch.rand(3, generator=torch_generator(0, "x"))
    assert np.array_equal(ours, np.random.get_state()[1])  # type: ignore[index]
    assert torch.equal(torchs, torch.random.get_rng_state())


def test_a_borrowed_generator_is_afterwards_as_it_was() -> None:
    before = torch.get_rng_state()
    with borrowed_generator() as generator:
        generator.manual_seed(5)
        drawn = torch.rand(3)
        with borrowed_generator() as inner:  # by the same thread
            inner.manual_seed(6)
            torch.rand(1)
        following = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat([drawn, following]), torch.rand(6, generator=torch.Generator().manual_seed(5)))
