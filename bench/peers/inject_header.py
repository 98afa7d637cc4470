"""A mitmproxy script for the peer mitmdump: it adds the credential's header to each request and streams the bodies."""

import os

from mitmproxy import http

BEARER = "Bearer " + os.environ["BENCH_TOKEN"]


def requestheaders(flow: http.HTTPFlow) -> None:
    flow.request.headers["authorization"] = BEARER
    flow.request.stream = True


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response
    flow.response.stream = True
