"""The documents that the server hands out: they name every path of the API, and none that is not there."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from clawmail.api.native.routes import ROUTES

DOCUMENTS = files("clawmail.api").joinpath("documents")


def _without_names(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_path_of_the_api_is_in_the_guide() -> None:
    guide = _without_names(DOCUMENTS.joinpath("api.md").read_text())
    for route in ROUTES:
        if route.path.startswith("/api/v1/"):
            assert _without_names(route.path) in guide, route.path


@pytest.mark.parametrize("name", ["api.md", "skills.md", "llms.txt", "index.html"])
def test_every_path_a_document_names_is_there(name: str) -> None:
    known = {_without_names(route.path) for route in ROUTES}
    text = DOCUMENTS.joinpath(name).read_text().replace("{{base_url}}", "")
    for path in re.findall(r"(?<![\w.])/(?:api/v1/)[\w/{} -]*[\w}]", _without_names(text)):
        assert path.partition(" ")[0] in known, path
