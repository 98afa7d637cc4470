"""Name the caller as the field manager of each write. `kubectl get --show-managed-fields` then shows who wrote what."""

from mitmproxy import http

WRITES = {"create", "update", "patch"}
MAX_LENGTH = 128
"""Maximum length of a field manager at the API server."""


def request(flow: http.HTTPFlow) -> None:
    """Edit the query of the request. The proxy decides on the edited request again."""
    if flow.metadata.get("verb") in WRITES:
        flow.request.query["fieldManager"] = flow.metadata["caller"][:MAX_LENGTH]
