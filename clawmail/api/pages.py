"""The documents this server hands out: a start page, the API guide, the agent's guide, and an index for programs.

They lie in ``documents/`` beside this module. ``{{base_url}}`` in them becomes the address the reader came by.
"""

from __future__ import annotations

import functools
import html
import re
from importlib.resources import files

from aiohttp import web

from clawmail.api.routing import Call, Handler, Route

#: seconds a document may be kept by a browser or a proxy.
KEPT_SECONDS = 300

_PLACE = "{{base_url}}"
# host of RFC 9110 section 7.2, as far as it can be shown without escaping it
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")


@functools.cache
def _document(name: str) -> str:
    return files("clawmail.api").joinpath("documents").joinpath(name).read_text(encoding="utf-8")


def base_url(call: Call) -> str:
    """The address the caller reached us by: the setting, else what the request says, without a slash at the end."""
    api = call.services.settings.api
    if api.base_url:
        return api.base_url.rstrip("/")
    headers = call.request.headers
    host = headers.get("Host", "")
    if not _HOST.fullmatch(host):
        host = "localhost:3000"
    behind_tls = bool(api.trust_proxy) and headers.get("X-Forwarded-Proto", "").lower() == "https"
    return f"{'https' if behind_tls else 'http'}://{host}"


def _page(name: str, content_type: str) -> Handler:
    async def handler(call: Call) -> web.Response:
        address = base_url(call)
        text = _document(name).replace(_PLACE, html.escape(address) if content_type == "text/html" else address)
        headers = {"Cache-Control": f"public, max-age={KEPT_SECONDS}"}
        if content_type == "text/html":
            # The page has its style in it and nothing else; no script can run on it.
            headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return web.Response(text=text, content_type=content_type, charset="utf-8", headers=headers)

    handler.__name__ = f"get_{re.sub('[^a-z]', '_', name)}"
    return handler


def _route(path: str, name: str, content_type: str, summary: str) -> Route:
    return Route("GET", path, _page(name, content_type), summary, auth="none", content_types=(content_type,))


ROUTES = (
    _route("/", "index.html", "text/html", "Start page"),
    _route("/api.md", "api.md", "text/markdown", "The API guide, with requests and answers"),
    _route("/skills.md", "skills.md", "text/markdown", "How an agent operates an inbox"),
    _route("/llms.txt", "llms.txt", "text/plain", "Index of the documents for language models"),
)
