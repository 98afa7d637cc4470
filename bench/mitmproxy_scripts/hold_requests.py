"""A mitmproxy script: it intercepts every request and never resumes it, as a user of mitmweb can."""

from mitmproxy import http


async def request(flow: http.HTTPFlow) -> None:
    flow.intercept()
    await flow.wait_for_resume()
