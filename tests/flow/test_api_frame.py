"""The frame of the API over real HTTP: errors, keys, limits, bodies, documents, starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from clawmail.api import crowd, pages, patience, public, server
from clawmail.api.native import accounts
from clawmail.api.openapi import with_description
from clawmail.api.routing import Call, Route
from clawmail.base.errors import StoreUnwell, Unauthenticated
from clawmail.base.secrets import key_matches
from clawmail.core.access import Access
from clawmail.core.health import Health
from clawmail.store.db import Database
from tests.support.api import Api, account_services, running_api, settings_with


class Echo(msgspec.Struct, frozen=True):
    """What the test routes take and answer."""

    text: str = ""
    client_ip: str = ""


async def _echo(call: Call) -> Echo:
    return Echo(call.body.text, call.client_ip)


async def _fails(call: Call) -> None:
    raise RuntimeError("secret of the server")


async def _store_is_down(call: Call) -> None:
    raise StoreUnwell("the store is not available")


async def _slow(call: Call) -> Echo:
    await asyncio.sleep(0.2)
    return Echo("done")


async def _streams(call: Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "private"})
    await response.prepare(call.request)
    await response.write(b"streamed")
    return response


TEST_ROUTES = (
    Route("POST", "/echo", _echo, "", "none", body=Echo, answer=Echo),
    Route("POST", "/owner", _echo, "", "domain", "domain", body=Echo, answer=Echo),
    Route("GET", "/read", _slow, "", "inbox", "read", answer=Echo),
    Route("POST", "/send", _echo, "", "inbox", "send", body=Echo, answer=Echo),
    Route("GET", "/either", _slow, "", "inbox or domain", "read", answer=Echo),
    Route("GET", "/fails", _fails, "", "none"),
    Route("GET", "/down", _store_is_down, "", "none"),
    Route("GET", "/slow", _slow, "", "none", answer=Echo),
    Route("GET", "/streams", _streams, "", "none"),
)
ROUTES = with_description((*public.ROUTES, *pages.ROUTES, *accounts.ROUTES, *TEST_ROUTES))


@pytest.fixture
async def api(db: Database) -> AsyncIterator[Api]:
    """An entrance with the account routes and some for tests."""
    async with running_api(db, ROUTES) as running:
        yield running


async def _error(answer: Any) -> tuple[int, str]:
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"error", "code"}
    assert answer.json["error"]
    return answer.status, answer.json["code"]


async def test_errors_are_json_everywhere(api: Api) -> None:
    assert await _error(await api.get("/nothing")) == (404, "not_found")
    wrong_method = await api.delete("/health")
    assert await _error(wrong_method) == (405, "method_not_allowed")
    assert wrong_method.headers["Allow"] == "GET"
    assert await _error(await api.call("POST", "/echo", data=b"{")) == (400, "invalid_json")
    assert await _error(await api.call("POST", "/echo")) == (400, "invalid_json")
    assert await _error(await api.post("/echo", {"text": 1})) == (400, "invalid")
    fault = await api.get("/fails")
    assert await _error(fault) == (500, "internal_error")
    assert b"secret" not in fault.body
    down = await api.get("/down")
    assert await _error(down) == (503, "store_unavailable")
    assert int(down.headers["Retry-After"]) > 0


async def test_every_answer_says_what_it_is(api: Api) -> None:
    for path in ("/health", "/nothing", "/fails", "/api.md", "/streams"):
        answer = await api.get(path)
        assert "X-Content-Type-Options" in answer.headers or path == "/streams"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Cache-Control" in answer.headers


async def test_what_is_no_http_is_answered_in_json_too(api: Api) -> None:
    host, port = api.server.addresses[0]
    for garbage in (b"NOT HTTP AT ALL\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(garbage)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert b'{"error":' in answer


async def test_a_key_is_judged_before_the_body_is_read(api: Api) -> None:
    assert (await api.call("POST", "/owner", data=b"{broken")).status == 401
    token = await api.verified_domain("claw.example")
    assert (await api.call("POST", "/owner", data=b"{broken", key=token)).status == 400


async def _raw(api: Api, *sent: bytes) -> list[bytes]:
    """What comes back for each piece that is sent on one connection, up to the end of its head."""
    reader, writer = await asyncio.open_connection(*api.server.addresses[0])
    heads = []
    for piece in sent:
        writer.write(piece)
        heads.append(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5))
    writer.close()
    await writer.wait_closed()
    return heads


async def test_a_client_that_holds_its_body_back_is_asked_for_it(api: Api) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n"
    going_on, answer = await _raw(api, head % b"/echo", b'{"text":"hi"}')
    assert going_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 ")
    # Without a key it need not come at all.
    (refused,) = await _raw(api, head % b"/owner")
    assert refused.startswith(b"HTTP/1.1 401 ")


async def test_a_caller_that_hangs_up_in_the_middle_is_no_fault_of_ours(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection(*api.server.addresses[0])
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await api.post("/echo", {"text": "next"})).json["text"] == "next"
    assert "internal error" not in capsys.readouterr().out


async def test_odd_request_lines(api: Api) -> None:
    for path, status in (
        (api.base.encode() + b"/health", b"200"),  # absolute-form
        (b"/health?x=%ff", b"200"),
        (b"/nothing/%ff", b"404"),
        (b"/" + b"x" * 7000, b"404"),
        (b"/" + b"x" * 9000, b"400"),
    ):
        (head,) = await _raw(api, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert head.split()[1] == status, path[:30]


async def test_an_unwanted_body_is_not_waited_for(api: Api) -> None:
    host, port = api.server.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /owner HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{")
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert b" 401 " in status


async def test_no_key_or_an_odd_one_is_401(api: Api) -> None:
    for header in ("", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer " + "x" * 5000, "cmd_x", "Bearer é:é"):
        for path in ("/api/v1/inboxes", "/read", "/either"):
            answer = await api.get(path, headers={"Authorization": header})
            assert await _error(answer) == (401, "unauthenticated"), header[:20]
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_the_scheme_is_case_insensitive_and_the_kind_of_key_matters(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    inbox = await api.inbox(token, "agent@claw.example")
    creation = (await api.post("/api/v1/inbox-creation-keys", key=token)).json["inbox_creation_key"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (await api.get("/api/v1/inboxes", headers={"Authorization": f"{scheme} {token}"})).status == 200
        assert (await api.get("/read", headers={"Authorization": f"{scheme} {inbox}"})).status == 200
    key = inbox.rpartition(":")[2]
    for wrong in (inbox, key, creation, token[:-1], token + "0", token.upper()):
        assert (await api.get("/api/v1/inboxes", key=wrong)).status == 401
    refused = await api.get("/api/v1/inboxes", key=inbox)
    assert refused.json["error"] == "This call takes a domain's token, not the key of an inbox"
    for wrong in (token, key, f"agent@claw.example:{token}", f"other@claw.example:{key}", f":{key}", f"{inbox}0"):
        assert (await api.get("/read", key=wrong)).status == 401
    assert (await api.get("/read", key=f"AGENT@Claw.Example:{key}")).status == 200
    assert [(await api.get("/either", key=good)).status for good in (token, inbox)] == [200, 200]
    assert (await api.get("/either", key=creation)).status == 401


async def test_a_revoked_key_stops_working_at_once(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    inbox = await api.inbox(token, "agent@claw.example")
    assert (await api.get("/read", key=inbox)).status == 200
    prefix = inbox.rpartition(":")[2][:11]
    assert (await api.delete(f"/api/v1/api-keys/{prefix}", key=token)).status == 204
    assert (await api.get("/read", key=inbox)).status == 401


async def test_other_processes_hear_of_a_revoked_key(api: Api, database_url: str) -> None:
    token = await api.verified_domain("claw.example")
    address, _, key = (await api.inbox(token, "agent@claw.example")).rpartition(":")
    other_db = Database(database_url, pool_size=2)
    await other_db.open()
    other = Access(other_db)
    other.start()
    try:
        async with asyncio.timeout(5):
            while not other.remembers:  # nothing is, until it listens
                await other.inbox(address, key)
            await api.delete(f"/api/v1/api-keys/{key[:11]}", key=token)
            with pytest.raises(Unauthenticated):
                while True:
                    await other.inbox(address, key)
                    await asyncio.sleep(0)
    finally:
        await other.stop()
        await other_db.close()


async def test_a_remembered_key_costs_no_argon2_and_a_wrong_prefix_none_either(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await api.verified_domain("claw.example")
    inbox = await api.inbox(token, "agent@claw.example")
    computed: list[str] = []
    real = key_matches

    def counted(key: str, hashed: str) -> bool:
        computed.append(key[:11])
        return real(key, hashed)

    monkeypatch.setattr("clawmail.core.access.key_matches", counted)
    for _ in range(5):
        assert (await api.get("/read", key=inbox)).status == 200
    assert len(computed) == 1
    assert (await api.get("/read", key="agent@claw.example:cm_" + "0" * 64)).status == 401
    assert len(computed) == 1
    wrong_end = inbox[:-1] + ("0" if inbox[-1] != "0" else "1")
    assert (await api.get("/read", key=wrong_end)).status == 401
    assert len(computed) == 2


async def test_gzip_is_read_within_the_limit(db: Database) -> None:
    async with running_api(db, ROUTES, settings=settings_with(api={"max_json_bytes": 1000})) as api:
        packed = {"Content-Encoding": "gzip"}
        good = await api.call("POST", "/echo", data=gzip.compress(b'{"text":"hi"}'), headers=packed)
        assert good.json["text"] == "hi"
        broken = await api.call("POST", "/echo", data=b'{"text":"hi"}', headers=packed)
        assert broken.status == 400
        bomb = await api.call("POST", "/echo", data=gzip.compress(b" " * 100_000), headers=packed)
        assert await _error(bomb) == (413, "too_large")
        large = await api.call("POST", "/echo", data=b'{"text":"' + b"a" * 1000 + b'"}')
        assert large.status == 413
        assert (await api.call("POST", "/echo", data=b"x", headers={"Content-Encoding": "br"})).status == 400
        fits = await api.call("POST", "/echo", data=b'{"text":"' + b"a" * 989 + b'"}')
        assert fits.status == 200


async def test_a_large_chunked_body_is_refused_while_it_comes(db: Database) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    small = settings_with(api={"max_json_bytes": 10_000})
    async with (
        running_api(db, ROUTES, settings=small) as api,
        api.client.post(f"{api.base}/echo", data=endless()) as response,
    ):
        assert response.status == 413


LIMITED = {
    "enabled": True,
    "domain_registration_per_hour": 2,
    "domain_routes_per_minute": 3,
    "inbox_send_per_hour": 2,
    "inbox_read_per_hour": 4,
    "unauthenticated_per_hour": 30,
}


def _allowance(answer: Any) -> tuple[str, str]:
    return answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]


async def test_limits_count_down_in_standard_headers(db: Database) -> None:
    async with running_api(db, ROUTES, settings=settings_with(limits=LIMITED)) as api:
        answers = [await api.post("/api/v1/domains/register", {"domain": f"d{n}.example"}) for n in range(3)]
        assert [a.status for a in answers] == [201, 201, 429]
        assert [_allowance(a) for a in answers] == [("2", "1"), ("2", "0"), ("2", "0")]
        assert 3590 <= int(answers[0].headers["RateLimit-Reset"]) <= 3600
        assert answers[0].headers["RateLimit-Policy"] == "2;w=3600"
        assert await _error(answers[2]) == (429, "rate_limited")
        assert answers[2].json["error"] == "Too many domain registration requests, try again later"
        assert 3590 <= int(answers[2].headers["Retry-After"]) <= 3600
        # Verification is counted with registration.
        assert (await api.post("/api/v1/domains/verify", {"verification_token": "x"})).status == 429
        assert (await api.get("/health")).status == 200


async def _two_inboxes(api: Api) -> tuple[str, str, str]:
    """A domain's token and two inbox credentials, made past all limits."""
    now = datetime.now(UTC)
    registered = await api.services.domains.add_trusted("claw.example", now)
    owner = await api.services.domains.owner("claw.example")
    one = await api.services.inboxes.new_inbox_key(owner, "one@claw.example", "", now)
    two = await api.services.inboxes.new_inbox_key(owner, "two@claw.example", "", now)
    return registered.token, f"{one.address}:{one.text}", f"{two.address}:{two.text}"


async def test_inbox_limits_count_per_client_or_per_inbox(db: Database) -> None:
    for scope, statuses in (("ip", [200, 200, 429, 429]), ("email", [200, 200, 200, 200])):
        async with running_api(db, ROUTES, settings=settings_with(limits=LIMITED | {"inbox_scope": scope})) as api:
            if scope == "ip":
                token, one, two = await _two_inboxes(api)
            assert [(await api.post("/send", {}, key=key)).status for key in (one, two, one, two)] == statuses
            # Reads are counted apart from sends.
            read = await api.get("/read", key=one)
            assert (read.status, _allowance(read)) == (200, ("4", "3"))
            assert (await api.get("/either", key=token)).status == 200


async def test_domain_routes_and_strangers_are_limited_by_address(db: Database) -> None:
    settings = settings_with(limits=LIMITED | {"unauthenticated_per_hour": 5})
    async with running_api(db, ROUTES, settings=settings) as api:
        token, one, _ = await _two_inboxes(api)
        assert [(await api.get("/api/v1/inboxes", key=token)).status for _ in range(4)] == [200, 200, 200, 429]
        assert [(await api.get("/read", key="a@b:cm_x")).status for _ in range(5)] == [401] * 5
        refused = await api.get("/read", key=one)
        assert (refused.status, refused.json["error"]) == (429, "Too many authentication attempts, try again later")


async def test_who_goes_on_asking_is_answered_later(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STEP_SECONDS", 3600.0)
    monkeypatch.setattr(patience, "MOST_SECONDS", 3600.0)
    settings = settings_with(limits=LIMITED | {"unauthenticated_per_hour": 1})
    async with running_api(db, ROUTES, settings=settings) as api:
        statuses = [(await api.get("/read", key="a@b:cm_x")).status for _ in range(1 + patience.FREE_REFUSALS)]
        assert statuses == [401] + [429] * patience.FREE_REFUSALS
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(api.get("/read", key="a@b:cm_x"), 0.2)


async def test_limits_can_be_switched_off(api: Api) -> None:
    answers = [await api.post("/api/v1/domains/verify", {"verification_token": "x"}) for _ in range(8)]
    assert {a.status for a in answers} == {404}
    assert "RateLimit-Limit" not in answers[0].headers


async def test_a_limits_store_that_is_down_does_not_take_the_api_down(db: Database) -> None:
    pytest.importorskip("redis")
    settings = settings_with(limits=LIMITED | {"storage_url": "redis://127.0.0.1:1/0"})
    async with running_api(db, ROUTES, settings=settings) as api:
        statuses = [(await api.post("/api/v1/domains/register", {"domain": "d.example"})).status for _ in range(3)]
        assert statuses == [201, 201, 429]


async def test_the_callers_address_is_what_our_own_proxies_saw(db: Database) -> None:
    cases = {
        0: {"198.51.100.7": "127.0.0.1"},
        1: {
            "198.51.100.7": "198.51.100.7",
            "6.6.6.6, 198.51.100.7": "198.51.100.7",
            "unknown": "127.0.0.1",
            "": "127.0.0.1",
            "2001:db8::7": "2001:db8::7",
        },
        2: {
            "6.6.6.6, 198.51.100.7, 10.0.0.1": "198.51.100.7",
            "198.51.100.7": "198.51.100.7",
            "not an address, 10.0.0.1": "10.0.0.1",
        },
    }
    for hops, seen_by in cases.items():
        async with running_api(db, ROUTES, settings=settings_with(api={"trust_proxy": hops})) as api:
            for forwarded, seen in seen_by.items():
                answer = await api.post("/echo", {}, headers={"X-Forwarded-For": forwarded})
                assert answer.json["client_ip"] == seen, (hops, forwarded)


async def test_documents_and_head(api: Api) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/api.md", "text/markdown"),
        ("/skills.md", "text/markdown"),
        ("/llms.txt", "text/plain"),
        ("/openapi.json", "application/json"),
    ):
        answer = await api.get(path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert b"{{base_url}}" not in answer.body
        assert len(answer.body) > 400
        head = await api.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
    assert api.base.encode() in (await api.get("/api.md")).body
    sly = await api.get("/", headers={"Host": 'evil"><script>alert(1)</script>'})
    assert b"<script>" not in sly.body
    assert (await api.call("HEAD", "/api/v1/inboxes")).status == 405


async def test_metrics_are_for_neighbours(api: Api, db: Database) -> None:
    await api.get("/health")
    metrics = await api.get("/metrics")
    assert b'clawmail_http_requests_total{route="GET /health",status="200"}' in metrics.body
    # Through a proxy the settings do not know of, everybody would look like a neighbour.
    assert (await api.get("/metrics", headers={"X-Forwarded-For": "198.51.100.7"})).status == 404
    async with running_api(db, ROUTES, settings=settings_with(api={"trust_proxy": 1})) as behind:
        assert (await behind.get("/metrics", headers={"X-Forwarded-For": "198.51.100.7"})).status == 404
        assert (await behind.get("/metrics", headers={"X-Forwarded-For": "10.1.2.3"})).status == 200
    async with running_api(db, ROUTES, settings=settings_with(api={"metrics": "off"})) as off:
        assert (await off.get("/metrics")).status == 404


async def test_health_is_503_when_the_store_does_not_answer(db: Database, database_url: str) -> None:
    gone = Database(database_url, pool_size=1)
    await gone.open()
    await gone.close()
    settings = settings_with()
    services = account_services(db, {}, settings, check_store=Health(gone).check)
    async with running_api(db, ROUTES, services=services, settings=settings) as api:
        assert await _error(await api.get("/health")) == (503, "store_unavailable")


async def test_whoever_does_not_read_his_answer_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.05)
    body = msgspec.json.encode({"text": "x" * 16_000_000})
    reader, writer = await asyncio.open_connection(*api.server.addresses[0], limit=1024)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    await reader.readuntil(b"\r\n")  # the answer has begun; the rest of it is not taken
    async with asyncio.timeout(15):
        while api.server.connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_connections_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await api.get("/health")).status == 200
    monkeypatch.setattr(server, "MAX_CONNECTIONS", api.server.connections)
    reader, writer = await asyncio.open_connection(*api.server.addresses[0])
    with contextlib.suppress(ConnectionError):  # cut before or after we look
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    assert (await api.get("/health")).status == 200  # on the connection that was there first


async def test_one_network_has_so_many_connections(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(limits={"enabled": True}, api={"max_connections_per_network": 3})
    async with running_api(db, ROUTES, settings=settings) as api:
        assert await together(api, 5) == [200] * 5  # our own machine is not counted
        monkeypatch.setattr(crowd, "SPARED", ())
        assert await together(api, 5) == [200] * 3 + [429] * 2
        assert await together(api, 3) == [200] * 3  # there is room again
    for section in ({"limits": {"enabled": False}}, {"limits": {"enabled": True}, "api": {"trust_proxy": 1}}):
        settings = settings_with(**section)
        settings = msgspec.structs.replace(
            settings, api=msgspec.structs.replace(settings.api, max_connections_per_network=1)
        )
        async with running_api(db, ROUTES, settings=settings) as api:
            assert await together(api, 3) == [200] * 3


async def together(api: Api, count: int) -> list[int]:
    """What ``count`` connections that are open at the same time are answered, in order."""
    opened = [await asyncio.open_connection(*api.server.addresses[0]) for _ in range(count)]
    answers = []
    for reader, writer in opened:
        with contextlib.suppress(ConnectionError):  # it may be closed before we ask
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
        answers.append(int(head.split()[1]))
        if answers[-1] == 429:
            assert "Content-Type: application/json" in head
            assert msgspec.json.decode(await reader.read())["code"] == "too_many_connections"
    for _, writer in opened:
        writer.close()
    async with asyncio.timeout(10):
        while api.server.connections:
            await asyncio.sleep(0.01)
    return answers


async def test_whoever_reads_slowly_gets_his_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.05)
    monkeypatch.setattr(server, "MIN_BYTES_READ", 1)
    body = msgspec.json.encode({"text": "x" * 16_000_000})
    reader, writer = await asyncio.open_connection(*api.server.addresses[0])
    writer.write(
        b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    size = 0
    while piece := await reader.read(256 * 1024):
        size += len(piece)
        await asyncio.sleep(0.005)
    assert size > 16_000_000
    writer.close()


async def test_stopping_lets_requests_in_flight_end(db: Database) -> None:
    async with running_api(db, ROUTES) as api:
        in_flight = asyncio.create_task(api.get("/slow"))
        await asyncio.sleep(0.05)
        await api.server.stop(5)
        assert (await in_flight).json["text"] == "done"


async def test_two_servers_share_a_port_when_there_are_workers(db: Database) -> None:
    settings = settings_with(server={"workers": 2})
    async with running_api(db, ROUTES, settings=settings) as one:
        port = one.server.addresses[0][1]
        again = settings_with(server={"workers": 2}, api={"listen": [f"127.0.0.1:{port}"]})
        async with running_api(db, ROUTES, settings=again) as two:
            assert two.server.addresses == one.server.addresses
    alone = settings_with(api={"listen": ["127.0.0.1:0", "256.0.0.1:0"]})
    with pytest.raises(OSError):
        async with running_api(db, ROUTES, settings=alone):
            raise AssertionError("it has to refuse an address that is not there")
