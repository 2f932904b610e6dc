"""Every setting as a typed, frozen value: its meaning, unit and default in one place.

``clawmail.config`` fills these from a TOML file and the environment; ``config.example.toml`` is generated from them,
and a test compares. A section is a class, a setting is a field, and ``CLAWMAIL_<SECTION>_<KEY>`` is its environment
name. Figures are in the unit that the name or the description says.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

PositiveInt = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]

#: gaps between the tries of a delivery, in seconds: minutes at first, half a day and more at the end, five days in all.
RETRY_SCHEDULE = (300, 900, 1800, 3600, 7200, 14400, 28800, 28800, 28800, 57600, 57600, 57600, 57600, 86400)
#: gaps between the tries of an event at a webhook, in seconds: ten tries in not quite sixteen hours.
WEBHOOK_RETRY_SCHEDULE = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800)


def _about(text: str) -> Meta:
    return Meta(description=text)


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who this server is and where it keeps its things."""

    hostname: Annotated[str, _about('Name in the SMTP greeting, in Received and in EHLO. "": mx.<app_domain>')] = ""
    app_domain: Annotated[
        str, _about("Main domain of this installation; its postmaster gets mail for <postmaster>")
    ] = "localhost"
    public_ip: Annotated[str, _about("Address that the A record of mx.<domain> has to show")] = "127.0.0.1"
    mx_label: Annotated[str, _about("First label of the MX host of a registered domain")] = "mx"
    data_dir: Annotated[str, _about("Directory of the embedded database, certificates and the secret key")] = "./var"
    workers: Annotated[PositiveInt, _about("Processes that share the ports")] = 1
    secret_key: Annotated[
        str,
        _about('64 hex digits that seal DKIM keys (AES-256-GCM). "": kept in data_dir/secret.key, made at first start'),
    ] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("Least severe line that is logged")] = (
        "info"
    )
    log_format: Annotated[Literal["auto", "text", "json"], _about("auto: text on a terminal, JSON elsewhere")] = "auto"
    grace_seconds: Annotated[Seconds, _about("Time that work in flight gets after SIGTERM")] = 20.0


class Database(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PostgreSQL 15 or newer, or the embedded one."""

    url: Annotated[str, _about('postgresql://user:password@host/name. "": the embedded PostgreSQL in data_dir')] = ""
    pool_size: Annotated[
        PositiveInt, _about("Connections of one process: two file mail, three serve the queue, the others requests")
    ] = 10
    timeout_seconds: Annotated[Seconds, _about("Longest wait for a connection or a statement")] = 30.0


class Smtp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door on port 25."""

    listen: Annotated[list[str], _about("Where mail servers connect: host:port")] = field(
        default_factory=lambda: ["0.0.0.0:25"]
    )
    submission_listen: Annotated[list[str], _about("Submission with STARTTLS and AUTH, for example 0.0.0.0:587")] = []
    submissions_listen: Annotated[list[str], _about("Submission inside TLS and AUTH, for example 0.0.0.0:465")] = []
    tls_cert: Annotated[
        str, _about('Certificate chain, PEM. "": a self-signed one, made at first start in data_dir')
    ] = ""
    tls_key: Annotated[str, _about("Private key of tls_cert, PEM")] = ""
    tls_dir: Annotated[str, _about("Directory of NAME.pem (or NAME/fullchain.pem) pairs, chosen by SNI")] = ""
    tls_session_tickets: Annotated[bool, _about("Offer TLS session tickets; false helps some Microsoft senders")] = True
    proxy_protocol: Annotated[bool, _about("Connections start with a PROXY header (v1 or v2)")] = False
    proxy_networks: Annotated[list[str], _about("Networks that may send a PROXY header")] = field(
        default_factory=lambda: ["127.0.0.0/8", "::1/128"]
    )
    max_message_bytes: Annotated[PositiveInt, _about("Largest message, counted after dot-unstuffing")] = 26_214_400
    max_recipients: Annotated[PositiveInt, _about("RCPT commands of one message")] = 100
    max_bad_commands: Annotated[PositiveInt, _about("Bad commands of one session; the last one closes it")] = 20
    bare_newline: Annotated[
        Literal["reject", "normalize"], _about("A bare CR or LF in a message: refuse it, or store it as CRLF")
    ] = "reject"
    command_timeout_seconds: Annotated[Seconds, _about("Wait for the next command (RFC 5321 4.5.3.2.7)")] = 300.0
    data_timeout_seconds: Annotated[Seconds, _about("Wait for the next block of a message")] = 180.0
    session_seconds: Annotated[Seconds, _about("Longest session")] = 1800.0
    min_bytes_per_second: Annotated[Count, _about("Least speed of a message on its way in")] = 500
    max_connections: Annotated[PositiveInt, _about("Open sessions in all, of one process")] = 4000
    max_connections_per_network: Annotated[PositiveInt, _about("Open sessions of one /24 or /64, of one process")] = 50
    messages_per_minute: Annotated[PositiveInt, _about("Messages of one address a minute")] = 500
    megabytes_per_minute: Annotated[PositiveInt, _about("Megabytes of one address a minute")] = 300
    max_bytes_in_flight: Annotated[
        PositiveInt, _about("Memory that all messages on their way in may take together, of one process")
    ] = 536_870_912
    max_unknown_recipients: Annotated[PositiveInt, _about("Refused recipients of a session before it is closed")] = 20
    tarpit_seconds: Annotated[Seconds, _about("Delay of the answer to a refused recipient or message")] = 1.0
    dmarc_policy: Annotated[
        Literal["record", "quarantine", "reject"], _about("What a failed DMARC policy does here")
    ] = "record"
    unknown_local_part: Annotated[
        Literal["catch-all", "reject"], _about("Mail for a name without an inbox: to the catch-all, or 550 5.1.1")
    ] = "catch-all"
    greylist: Annotated[bool, _about("Defer the first mail of an unknown network, sender and recipient")] = False
    greylist_delay_seconds: Annotated[Seconds, _about("How long a greylisted mail has to wait")] = 300.0
    greylist_passes: Annotated[PositiveInt, _about("Passes after which a network is known")] = 3
    dnsbl: Annotated[list[str], _about("zone or zone=weight of block lists asked for the client's address")] = []
    dnswl: Annotated[list[str], _about("zone or zone=weight of allow lists; their weight is taken off")] = []
    dnsbl_threshold: Annotated[PositiveInt, _about("Score at which the client is refused")] = 1
    helo_check: Annotated[Literal["off", "reject"], _about("Refuse a HELO that is no name, or is ours")] = "off"
    fcrdns_check: Annotated[Literal["off", "reject"], _about("Refuse a client without forward-confirmed PTR")] = "off"


class Api(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP API."""

    listen: Annotated[list[str], _about("Where HTTP clients connect: host:port")] = field(
        default_factory=lambda: ["127.0.0.1:3000"]
    )
    domain_register_token: Annotated[str, _about('Bearer token needed to register a domain. "": anybody may')] = ""
    trust_proxy: Annotated[
        int, Meta(ge=0, description="Reverse proxies in front: how many X-Forwarded-For hops to trust")
    ] = 0
    max_json_bytes: Annotated[PositiveInt, _about("Largest request body, also after gzip")] = 26_214_400
    max_connections_per_network: Annotated[PositiveInt, _about("Open connections of one /24 or /64")] = 100
    base_url: Annotated[str, _about('Address people see, for documents and links. "": taken from the request')] = ""
    metrics: Annotated[
        Literal["private", "everyone", "off"],
        _about("Who may read GET /metrics: loopback and private addresses, everyone, or nobody"),
    ] = "private"


class Dns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The resolver."""

    nameservers: Annotated[list[str], _about("host or host:port. []: those of /etc/resolv.conf")] = []
    timeout_seconds: Annotated[Seconds, _about("Longest wait for an answer, all tries together")] = 5.0
    cache_entries: Annotated[PositiveInt, _about("Answers kept")] = 50_000


class Outbound(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How mail leaves."""

    port: Annotated[int, Meta(ge=1, le=65535, description="Port dialled at an MX")] = 25
    source_ip: Annotated[str, _about('Address that outgoing connections start from. "": the system chooses')] = ""
    return_path: Annotated[
        Literal["inbox", "delivery"],
        _about("Envelope sender of an inbox's mail: its address, or a signed one per delivery that proves bounces"),
    ] = "inbox"
    retry_schedule_seconds: Annotated[
        list[float], _about("Gaps before each further try; after the last one the delivery expires and bounces")
    ] = field(default_factory=lambda: list(RETRY_SCHEDULE))
    retry_jitter: Annotated[float, Meta(ge=0, le=0.5, description="Share by which each gap is stretched or shrunk")] = (
        0.1
    )
    allow_private: Annotated[bool, _about("An MX at a loopback or private address may be dialled")] = False
    lease_seconds: Annotated[Seconds, _about("How long a claim on work holds unless its owner renews it")] = 900.0
    poll_seconds: Annotated[Seconds, _about("How often the queue is looked at when nothing wakes us")] = 5.0
    max_attempts_in_flight: Annotated[PositiveInt, _about("Deliveries attempted at once by one process")] = 200
    presets: Annotated[str, _about('TOML file of limits per destination. "": the built-in one')] = ""
    delay_notice_seconds: Annotated[Count, _about("Tell the sender of a delay after so long; 0: never")] = 14400
    connect_timeout_seconds: Annotated[Seconds, _about("Wait for a TCP connection")] = 30.0
    command_timeout_seconds: Annotated[Seconds, _about("Wait for a reply to a command (RFC 5321 4.5.3.2)")] = 300.0
    dot_timeout_seconds: Annotated[Seconds, _about("Wait for the reply after the final dot")] = 600.0
    idle_connection_seconds: Annotated[Seconds, _about("How long an unused connection is kept")] = 10.0
    ed25519: Annotated[bool, _about("Sign with a second, Ed25519 key where a domain has one")] = False
    mta_sts: Annotated[bool, _about("Fetch and obey MTA-STS policies (RFC 8461)")] = True
    dane: Annotated[bool, _about("Obey TLSA records when the resolver validates DNSSEC (RFC 7672)")] = True
    tls_min_version: Annotated[Literal["1.2", "1.3"], _about("Oldest TLS spoken")] = "1.2"


class Webhooks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Owners are told of events over HTTP."""

    allow_private: Annotated[bool, _about("Endpoints may be http, and at loopback or private addresses")] = False
    timeout_seconds: Annotated[Seconds, _about("Wait for an endpoint's answer")] = 10.0
    retry_schedule_seconds: Annotated[
        list[float], _about("Gaps before each further try; after the last one the event is given up")
    ] = field(default_factory=lambda: list(WEBHOOK_RETRY_SCHEDULE))
    lease_seconds: Annotated[
        Seconds, _about("How long a claim on an event holds; longer than timeout_seconds by a few")
    ] = 60.0
    poll_seconds: Annotated[Seconds, _about("How often the events are looked at when nothing wakes us")] = 5.0


class Forwarding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forwarding rules."""

    rewrite_from: Annotated[
        Literal["when-needed", "always", "never"],
        _about("Put forwarding@<domain> in From: when the original could not pass DMARC, always, or never"),
    ] = "when-needed"


class Inbox(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inboxes."""

    storage_quota_bytes: Annotated[PositiveInt, _about("Quota of a new inbox")] = 524_288_000
    catch_all_local_part: Annotated[str, _about("Inbox that gets mail for unknown names")] = "catchall"


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long things are kept. 0: for ever."""

    attachment_ttl_hours: Annotated[
        float, Meta(ge=0, description="Hours until attachments answer 410; fractions allowed")
    ] = 0
    mail_days: Annotated[float, Meta(ge=0, description="Days until mail is removed")] = 0
    event_days: Annotated[float, Meta(ge=0, description="Days until events are removed")] = 90
    webhook_days: Annotated[
        float, Meta(ge=0, description="Days until it is forgotten what became of an event at a webhook")
    ] = 7


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rate limits of the API; ``enabled = false`` also switches off what paces SMTP strangers."""

    enabled: Annotated[bool, _about("false: no rate limits at all")] = True
    storage_url: Annotated[str, _about('redis:// or valkey:// address that counts each request. "": PostgreSQL')] = ""
    inbox_scope: Annotated[
        Literal["ip", "email"], _about("Inbox routes are counted per client address or per inbox")
    ] = "ip"
    domain_registration_per_hour: Annotated[PositiveInt, _about("Register and verify, per client address")] = 5
    domain_routes_per_minute: Annotated[PositiveInt, _about("Routes with a domain token, per client address")] = 60
    inbox_send_per_hour: Annotated[PositiveInt, _about("Send, reply and forward")] = 10
    inbox_read_per_hour: Annotated[PositiveInt, _about("Reads, downloads, archive")] = 100
    unauthenticated_per_hour: Annotated[
        PositiveInt, _about("Inbox requests of one address before the key is judged")
    ] = 300


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    server: Server = Server()
    database: Database = Database()
    smtp: Smtp = Smtp()
    api: Api = Api()
    dns: Dns = Dns()
    outbound: Outbound = Outbound()
    webhooks: Webhooks = Webhooks()
    forwarding: Forwarding = Forwarding()
    inbox: Inbox = Inbox()
    retention: Retention = Retention()
    limits: Limits = Limits()

    @property
    def hostname(self) -> str:
        """The name this server goes by: ``server.hostname``, else mx.<app_domain>."""
        return self.server.hostname or f"{self.server.mx_label}.{self.server.app_domain}"
