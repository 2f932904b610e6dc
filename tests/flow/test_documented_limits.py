"""The documented rate limits, as they are without any setting: each is crossed once, on the real daemon."""

from __future__ import annotations

import asyncio
import smtplib
from typing import Any

from tests.support.house import PATIENCE_SECONDS, House, OwnedInbox, furnished_house
from tests.support.smtp import trusting


async def allowed(house: House, method: str, path: str, key: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """Repeats a request until it answers 429; how many of the window it was allowed, and that last answer."""
    answered = 0
    while True:
        async with house.daemon.request(method, path, key=key, json_body=body) as response:
            headers, answer = response.headers, await response.json()
            answered += 1
            assert answered < 400
            if response.status == 429:
                assert (headers["RateLimit-Remaining"], answer["code"]) == ("0", "rate_limited")
                assert 0 < int(headers["Retry-After"]) <= int(headers["RateLimit-Policy"].partition(";w=")[2])
                return int(headers["RateLimit-Limit"]), answer
            assert "error" not in answer, answer
            assert int(headers["RateLimit-Remaining"]) < int(headers["RateLimit-Limit"])


async def test_every_documented_limit_is_crossed(database_url: str) -> None:
    async with furnished_house(database_url, {"limits": {"enabled": True}}) as house:
        domain = await house.domain("limits.example")  # one registration and one verification of the five an hour
        inbox = await domain.inbox("agent")
        email = {"to": "bob@nowhere.test", "subject": "x", "text": "y"}
        limit, answer = await allowed(house, "POST", "/api/v1/emails/send", inbox.key, email)
        assert (limit, "send" in answer["error"].lower()) == (10, True)
        sent = [one for one in await inbox.emails("?limit=100") if one["direction"] == "outbound"]
        assert len(sent) == 10
        assert (await allowed(house, "GET", "/api/v1/emails", inbox.key))[0] == 100
        assert (await allowed(house, "GET", "/api/v1/inboxes", domain.token))[0] == 60
        registered = 0
        while registered < 10:
            body = {"domain": f"another{registered}.example"}
            async with house.daemon.request("POST", "/api/v1/domains/register", json_body=body) as response:
                if response.status == 429:
                    break
                registered += 1
        assert registered == 5 - 2
        guesses = 0
        while guesses < 400:
            async with house.daemon.request("GET", "/api/v1/emails", key="agent@limits.example:cm_guess") as response:
                if response.status == 429:
                    break
                assert response.status == 401
                guesses += 1
        assert response.headers["RateLimit-Limit"] == "300"
        async with house.daemon.request("GET", "/health") as response:
            assert response.status == 200  # nobody's limit


def handed_in(door: str, inbox: OwnedInbox, count: int) -> list[tuple[int, bytes]]:
    """``count`` messages on port 465, by an ordinary client in one session; the reply to each."""
    host, _, port = door.rpartition(":")
    replies = []
    with smtplib.SMTP_SSL(host, int(port), context=trusting(), timeout=PATIENCE_SECONDS) as client:
        client.login(inbox.address, inbox.key.rpartition(":")[2])
        for number in range(count):
            client.mail(inbox.address)
            client.rcpt("bob@nowhere.test")
            replies.append(client.data(f"From: {inbox.address}\r\nSubject: {number}\r\n\r\nhello\r\n"))
    return replies


async def test_mail_clients_and_the_api_share_the_limit_of_sending(database_url: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "limits": {"enabled": True, "inbox_send_per_hour": 3},
        "smtp": {"listen": ["127.0.0.1:0"], "submissions_listen": ["127.0.0.1:0"]},
    }
    async with furnished_house(database_url, settings) as house:
        inbox = await (await house.domain("limits.example")).inbox("agent")
        door = (await house.daemon.logged("ready"))["smtp"][1]
        await inbox.send("bob@nowhere.test")
        replies = await asyncio.to_thread(handed_in, door, inbox, 3)
        assert [code for code, _ in replies] == [250, 250, 450]
        assert replies[2][1].startswith(b"4.7.1 Too many send requests, try again later (in ")
        email = {"to": "bob@nowhere.test", "subject": "x", "text": "y"}
        assert await allowed(house, "POST", "/api/v1/emails/send", inbox.key, email) == (
            3,
            {"error": "Too many send requests, try again later", "code": "rate_limited"},
        )
        assert len([one for one in await inbox.emails() if one["direction"] == "outbound"]) == 3
