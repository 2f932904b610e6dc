"""The short form of the torture: each kind of death once, under load, and every promise accounted for."""

from __future__ import annotations

import random

import pytest

from tests.torture.account import Account
from tests.torture.faults import FAULTS
from tests.torture.run import torture
from tests.torture.standby import BINARIES
from tests.torture.world import World
from tests.torture.worlds import alone, mirrored, together

BY_NAME = {fault.name: fault for fault in FAULTS}


def assert_kept(world: World, account: Account) -> None:
    """Something was promised, all of it was kept, and nothing came twice without a reason."""
    assert account.promised_in > 20, world.ledger.refusals
    assert account.promised_out > 20, world.ledger.refusals
    assert account.clean, (account.lost, account.unexplained, account.wrong, account.tracebacks)


@pytest.mark.parametrize("seed", [7])
async def test_a_server_alone_keeps_what_it_promised(seed: int) -> None:
    random.seed(seed)
    names = ("kill -9 a server", "kill -9 a worker", "kill -9 PostgreSQL", "sink hangs up after the dot")
    async with alone() as world:
        account = await torture(world, [BY_NAME[name] for name in names], seconds=60, rounds=1)
        assert_kept(world, account)
        restarts = [s.recovered for s in world.ledger.strikes if s.kind == "kill -9 PostgreSQL"]
        assert max(restarts) < 30


@pytest.mark.parametrize("seed", [8])
async def test_two_servers_keep_what_they_promised(seed: int) -> None:
    random.seed(seed)
    names = ("kill -9 a server", "SIGSTOP beyond the lease", "network to the database cut", "database read-only")
    async with together() as world:
        account = await torture(world, [BY_NAME[name] for name in names], seconds=60, rounds=1)
        assert_kept(world, account)


@pytest.mark.skipif(not (BINARIES / "postgres").exists(), reason=f"no PostgreSQL in {BINARIES}")
@pytest.mark.parametrize("seed", [9])
async def test_a_standby_that_is_promoted_has_every_promise(seed: int) -> None:
    """Twice: the second time the primary is one that was a standby before."""
    random.seed(seed)
    names = ("standby promoted", "kill -9 a server", "standby promoted")
    async with mirrored() as world:
        account = await torture(world, [BY_NAME[name] for name in names], seconds=120, rounds=1)
        assert_kept(world, account)
        assert [strike.kind for strike in world.ledger.strikes].count("standby promoted") == 2
