"""An inbox gives out spikes in the order of service, early enough and not too many at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.configuration import Destination
from speckfarm_server.twin.inbox import FOREVER_NS, Bound, Inbox
from speckfarm_server.twin.kernel import SPIKE_DTYPE, Spikes

LINKS = [Destination(core=0, feature_shift=10 * rank) for rank in range(3)]
times = st.lists(st.integers(0, 20), max_size=12).map(sorted)


def spikes(times_ns: list[int]) -> Spikes:
    made = np.zeros(len(times_ns), SPIKE_DTYPE)
    made["t_ns"] = times_ns
    made["cause"] = np.arange(len(times_ns))
    return made


def filled(queues: list[list[int]], cut: int, many: int) -> Inbox:
    inbox = Inbox(LINKS[: len(queues)], many)
    for rank, times_ns in enumerate(queues):
        whole = spikes(times_ns)
        inbox.put(rank, whole[:cut])
        inbox.put(rank, whole[cut:])
    return inbox


def in_order(queues: list[list[int]]) -> list[tuple[int, int, int]]:
    """(t_ns, rank, number)."""
    return sorted((t, rank, n) for rank, queue in enumerate(queues) for n, t in enumerate(queue))


@given(
    queues=st.lists(times, min_size=1, max_size=3), cut=st.integers(0, 12), many=st.integers(1, 9)
)
def test_all_spikes_come_in_the_order_of_service_and_few_at_a_time(queues, cut, many):
    inbox = filled(queues, cut, many)
    largest = max(max(min(cut, len(q)), len(q) - min(cut, len(q))) for q in queues)

    taken = []
    while inbox.has_due(Bound(FOREVER_NS, 0)):
        taken.append(inbox.take(Bound(FOREVER_NS, 0)))

    found = [(s["t_ns"], s["feature"] // 10, s["cause"]) for piece in taken for s in piece]
    assert found == in_order(queues)
    assert inbox.waiting == [0] * len(queues)
    assert inbox.first_ns == FOREVER_NS
    assert all(0 < len(piece) <= max(many, len(queues) * largest) + largest for piece in taken)


@given(
    queues=st.lists(times, min_size=2, max_size=3),
    cut=st.integers(0, 12),
    t_ns=st.integers(0, 20),
    rank=st.integers(0, 2),
)
def test_a_merge_holds_back_what_something_to_come_may_precede(queues, cut, t_ns, rank):
    inbox = filled(queues, cut, 100)
    due = [spike for spike in in_order(queues) if spike[:2] <= (t_ns, rank)]

    has_due = inbox.has_due(Bound(t_ns, rank))
    taken = inbox.take(Bound(t_ns, rank))

    assert has_due == bool(due)
    assert [(s["t_ns"], s["feature"] // 10, s["cause"]) for s in taken] == due
    assert sum(inbox.waiting) == sum(map(len, queues)) - len(due)
