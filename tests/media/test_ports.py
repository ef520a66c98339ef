from __future__ import annotations

import errno

import pytest

from sipbridge.errors import NoPortAvailableError
from sipbridge.media.ports import PortPool


def taken(pool: PortPool, now: float = 0.0) -> int:
    return pool.acquire(lambda port: port, now)[0]


@pytest.mark.parametrize(
    ("ports", "size"), [(range(4000, 4020), 10), (range(4001, 4020), 9), (range(4000, 4019), 9), (range(4000, 4001), 0)]
)
def test_even_ports_whose_successor_is_in_the_range(ports: range, size: int) -> None:
    pool = PortPool(ports)
    found = [taken(pool) for _ in range(pool.size)]
    assert len(set(found)) == size
    assert all(port % 2 == 0 and port in ports and port + 1 in ports for port in found)
    with pytest.raises(NoPortAvailableError):
        taken(pool)


def test_the_port_that_has_been_free_for_longest_goes_first() -> None:
    pool = PortPool(range(4000, 4008))
    first, second = taken(pool), taken(pool)
    pool.give_back(second, 10.0)
    pool.give_back(first, 11.0)
    assert [taken(pool, 100.0) for _ in range(4)] == [4004, 4006, second, first]


def test_a_port_rests_while_the_range_allows_it() -> None:
    pool = PortPool(range(4000, 4004), rest_seconds=30.0)
    pool.give_back(taken(pool), 1.0)
    assert pool.rested(2.0) == 1
    assert taken(pool, 2.0) == 4002
    assert taken(pool, 2.0) == 4000  # no other is left: better than to refuse a call
    pool.give_back(4000, 3.0)
    assert pool.rested(32.9) == 0
    assert pool.rested(33.0) == 1


def test_a_port_of_another_process_is_passed_over() -> None:
    pool = PortPool(range(4000, 4006))
    taken_elsewhere = {4000, 4004}

    def bind(port: int) -> str:
        if port in taken_elsewhere:
            raise OSError(errno.EADDRINUSE, "in use")
        return f"socket {port}"

    assert pool.acquire(bind, 0.0) == (4002, "socket 4002")
    with pytest.raises(NoPortAvailableError):
        pool.acquire(bind, 0.0)
    assert pool.free == 2
    taken_elsewhere.clear()
    assert pool.acquire(bind, 1.0) == (4004, "socket 4004")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_a_reason_that_the_next_port_shares_is_not_tried_again(code: int) -> None:
    pool = PortPool(range(4000, 4100))
    tried = []

    def bind(port: int) -> None:
        tried.append(port)
        raise OSError(code, "no")

    with pytest.raises(NoPortAvailableError, match="4000"):
        pool.acquire(bind, 0.0)
    assert tried == [4000]
    assert taken(pool) == 4000
