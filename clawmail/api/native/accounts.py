"""The account side of ``/api/v1``: domains, keys, inboxes, forwarding rules. Read, call one use-case, write."""

from __future__ import annotations

from clawmail.api.native import account_shapes as shapes
from clawmail.api.native import domain_shapes
from clawmail.api.routing import Call, Route


async def register_domain(call: Call) -> domain_shapes.RegisteredDomain:
    """POST /domains/register"""
    domains = call.services.domains
    return domain_shapes.RegisteredDomain.of(await domains.register(call.body.domain, call.now), domains.host)


async def verify_domain(call: Call) -> domain_shapes.VerifiedDomain:
    """POST /domains/verify"""
    return domain_shapes.VerifiedDomain.of(await call.services.domains.verify(call.body.verification_token, call.now))


async def list_domains(call: Call) -> domain_shapes.DomainList:
    """GET /domains"""
    return domain_shapes.DomainList(
        [domain_shapes.DomainInfo.of(d) for d in await call.services.domains.of(call.principal)]
    )


async def domain_dns(call: Call) -> domain_shapes.DnsRecords:
    """GET /domains/{domain}/dns"""
    checks = await call.services.domains.records(call.principal, call.path["domain"], call.now)
    return domain_shapes.DnsRecords([domain_shapes.DnsRecord.of(check) for check in checks])


async def rotate_dkim(call: Call) -> domain_shapes.DkimRecord:
    """POST /domains/{domain}/dkim/rotate"""
    key = await call.services.domains.rotate_dkim(call.principal, call.path["domain"], call.now)
    return domain_shapes.DkimRecord.of(key, call.principal.domain_name)


async def delete_domain(call: Call) -> None:
    """DELETE /domains/{domain}"""
    await call.services.domains.remove(call.principal, call.path["domain"], call.now)


async def create_creation_key(call: Call) -> shapes.CreationKey:
    """POST /inbox-creation-keys"""
    return shapes.CreationKey.of(await call.services.inboxes.new_creation_key(call.principal, call.now))


async def delete_creation_key(call: Call) -> None:
    """DELETE /inbox-creation-keys/{key}"""
    await call.services.inboxes.revoke_creation_key(call.principal, call.path["key"], call.now)


async def create_api_key(call: Call) -> shapes.ApiKey:
    """POST /api-keys"""
    wanted: shapes.CreateApiKey = call.body
    key = await call.services.inboxes.new_inbox_key(call.principal, wanted.email, wanted.label or "", call.now)
    return shapes.ApiKey.of(key)


async def list_api_keys(call: Call) -> shapes.ApiKeyList:
    """GET /api-keys"""
    keys = await call.services.inboxes.list_keys(call.principal)
    return shapes.ApiKeyList([shapes.ApiKeyInfo.of(key) for key in keys])


async def delete_api_key(call: Call) -> None:
    """DELETE /api-keys/{key}"""
    await call.services.inboxes.revoke_inbox_key(call.principal, call.path["key"], call.now)


async def list_inboxes(call: Call) -> shapes.InboxList:
    """GET /inboxes"""
    return shapes.InboxList([shapes.InboxInfo.of(inbox) for inbox in await call.services.inboxes.all(call.principal)])


async def create_rule(call: Call) -> shapes.Rule:
    """POST /forwarding-rules"""
    wanted: shapes.CreateRule = call.body
    rule = await call.services.rules.add(
        call.principal, wanted.match_field, wanted.regex_pattern, wanted.destination_email, call.now
    )
    return shapes.Rule.of(rule)


async def list_rules(call: Call) -> shapes.RuleList:
    """GET /forwarding-rules"""
    return shapes.RuleList([shapes.Rule.of(rule) for rule in await call.services.rules.all(call.principal)])


async def delete_rule(call: Call) -> None:
    """DELETE /forwarding-rules/{id}"""
    await call.services.rules.delete(call.principal, call.path["id"])


_V1 = "/api/v1"
ROUTES = (
    Route(
        "POST",
        f"{_V1}/domains/register",
        register_domain,
        "Register a domain, or start its registration anew",
        auth="register",
        limiter="registration",
        body=domain_shapes.RegisterDomain,
        answer=domain_shapes.RegisteredDomain,
        status=201,
        errors=(409,),
    ),
    Route(
        "POST",
        f"{_V1}/domains/verify",
        verify_domain,
        "Look at the DNS and verify a domain",
        auth="none",
        limiter="registration",
        body=domain_shapes.VerifyDomain,
        answer=domain_shapes.VerifiedDomain,
        errors=(404,),
    ),
    Route(
        "GET",
        f"{_V1}/domains",
        list_domains,
        "List the domains of the token",
        auth="pending domain",
        limiter="domain",
        answer=domain_shapes.DomainList,
    ),
    Route(
        "GET",
        f"{_V1}/domains/{{domain}}/dns",
        domain_dns,
        "The DNS records of a domain, each with its live state and a fix",
        auth="pending domain",
        limiter="domain",
        answer=domain_shapes.DnsRecords,
    ),
    Route(
        "POST",
        f"{_V1}/domains/{{domain}}/dkim/rotate",
        rotate_dkim,
        "Make the next DKIM key; it signs as soon as its record is seen",
        auth="domain",
        limiter="domain",
        answer=domain_shapes.DkimRecord,
        status=201,
    ),
    Route(
        "DELETE",
        f"{_V1}/domains/{{domain}}",
        delete_domain,
        "Remove a domain with its inboxes, keys and rules",
        auth="pending domain",
        limiter="domain",
        status=204,
    ),
    Route(
        "POST",
        f"{_V1}/inbox-creation-keys",
        create_creation_key,
        "Make a key that opens one new inbox",
        auth="domain",
        limiter="domain",
        answer=shapes.CreationKey,
        status=201,
    ),
    Route(
        "DELETE",
        f"{_V1}/inbox-creation-keys/{{key}}",
        delete_creation_key,
        "Revoke an unused creation key, by id or prefix",
        auth="domain",
        limiter="domain",
        status=204,
        errors=(409,),
    ),
    Route(
        "POST",
        f"{_V1}/api-keys",
        create_api_key,
        "Make a key to an inbox, and the inbox if it is missing",
        auth="creation",
        limiter="domain",
        body=shapes.CreateApiKey,
        answer=shapes.ApiKey,
        status=201,
        errors=(409,),
    ),
    Route(
        "GET",
        f"{_V1}/api-keys",
        list_api_keys,
        "List the keys to a domain's inboxes",
        auth="domain",
        limiter="domain",
        answer=shapes.ApiKeyList,
    ),
    Route(
        "DELETE",
        f"{_V1}/api-keys/{{key}}",
        delete_api_key,
        "Revoke a key to an inbox, by id or prefix",
        auth="domain",
        limiter="domain",
        status=204,
        errors=(409,),
    ),
    Route(
        "GET",
        f"{_V1}/inboxes",
        list_inboxes,
        "List a domain's inboxes",
        auth="domain",
        limiter="domain",
        answer=shapes.InboxList,
    ),
    Route(
        "POST",
        f"{_V1}/forwarding-rules",
        create_rule,
        "Make a forwarding rule",
        auth="domain",
        limiter="domain",
        body=shapes.CreateRule,
        answer=shapes.Rule,
        status=201,
        errors=(409,),
    ),
    Route(
        "GET",
        f"{_V1}/forwarding-rules",
        list_rules,
        "List a domain's forwarding rules",
        auth="domain",
        limiter="domain",
        answer=shapes.RuleList,
    ),
    Route(
        "DELETE",
        f"{_V1}/forwarding-rules/{{id}}",
        delete_rule,
        "Delete a forwarding rule",
        auth="domain",
        limiter="domain",
        status=204,
    ),
)
