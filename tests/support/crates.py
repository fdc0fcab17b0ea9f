"""Research objects, validated by the tools of those who use them, with no network."""

import io
import json
from pathlib import Path
from typing import Any

import rocrate
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from urllib3 import HTTPResponse

# rocrate brings the newest context along, which has every term of the earlier ones.
CONTEXT = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"


def problems(crate: Path, folder: Path, profile: str, severity: str) -> list[str]:
    """What is wrong with a crate by a profile, from a severity such as "REQUIRED" on.

    `folder` keeps what would be asked of the network.
    """
    cache = folder / "contexts"
    _keep_context(cache)
    settings = ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier=profile,
        requirement_severity=Severity[severity],
        offline=True,
        cache_path=cache,
    )
    result = services.validate(settings)
    return [f"{issue.severity.name}: {issue.message}" for issue in result.get_issues()]


class _FromDisk(HTTPAdapter):
    """Answers with the context, whatever is asked for."""

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        headers = {"Content-Type": "application/ld+json"}
        body = io.BytesIO(CONTEXT.read_bytes())
        raw = HTTPResponse(body, headers, 200, preload_content=False)
        return self.build_response(request, raw)


def _keep_context(cache: Path) -> None:
    """Have the JSON-LD context in the validator's cache, as if it had been asked for."""
    with CachedSession(str(cache), backend="sqlite") as session:
        session.mount("https://", _FromDisk())
        session.get(CONTEXT_URL)


def graph(metadata: bytes) -> dict[str, Any]:
    """The entities of a crate's metadata, by their `@id`."""
    return {one["@id"]: one for one in json.loads(metadata)["@graph"]}
