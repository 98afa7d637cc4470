"""A mitmproxy script: holds every request as a person does who intercepts and goes for lunch."""

from mitmproxy import http


async def request(flow: http.HTTPFlow) -> None:
    flow.intercept()
    await flow.wait_for_resume()
