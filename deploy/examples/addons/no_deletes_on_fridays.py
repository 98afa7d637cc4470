"""Refuse deletions on Fridays with an answer that kubectl prints."""

import datetime
import json

from mitmproxy import http

FRIDAY = 4
DELETIONS = {"delete", "deletecollection"}


def request(flow: http.HTTPFlow) -> None:
    """Set a response. The target does not get the request."""
    if flow.metadata.get("verb") in DELETIONS and today().weekday() == FRIDAY:
        message = f"{flow.metadata['connector']}: no deletions on Fridays; delete it on Monday"
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}
        body = json.dumps(status | {"message": message}).encode()
        flow.response = http.Response.make(403, body, {"Content-Type": "application/json"})


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
