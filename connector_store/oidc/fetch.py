"""Fetches JSON documents of issuers over https, with limits on time, size and redirects."""

import ssl
from typing import Final, Protocol

import aiohttp
from yarl import URL

from connector_store.domain.base.json_document import load_json
from connector_store.outbound_proxy import proxy_from_environment

FETCH_TIMEOUT: Final = 5.0
"""Seconds to fetch a document, including redirects. A caller's check waits for at most two documents."""
MAX_DOCUMENT_BYTES: Final = 512 * 1024
"""Maximum size of a document in bytes. A key set of 100 RSA keys with certificate chains is smaller."""
MAX_REDIRECTS: Final = 3
_REDIRECT_STATUSES: Final = (301, 302, 307, 308)


class FetchError(Exception):
    """A document cannot be fetched. The text can be shown to a caller."""


class DocumentFetcher(Protocol):
    """Fetches a document. Raises FetchError for any failure."""

    async def __call__(self, url: str) -> object: ...


class HttpsFetcher:
    """`DocumentFetcher` over https. It follows redirects only to the same scheme, host and port."""

    def __init__(self, trust: ssl.SSLContext, *, timeout: float = FETCH_TIMEOUT) -> None:
        self._trust = trust
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def __call__(self, url: str) -> object:
        try:
            # Requests are minutes apart, so the server would close an idle connection before its reuse.
            connector = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
            async with aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session:
                return load_json(await _get(session, URL(url)))
        except TimeoutError:
            raise FetchError(f"{url}: no answer within {self._timeout.total:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
            raise FetchError(f"{url}: its certificate is not valid: {reason}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(f"{url}: {type(error).__name__}") from None
        except ValueError:
            raise FetchError(f"{url}: is not JSON") from None


async def _get(session: aiohttp.ClientSession, url: URL) -> bytes:
    origin = url.origin()
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False, proxy=proxy_from_environment(str(url))) as response:
            if response.status in _REDIRECT_STATUSES:
                url = _resolve_redirect(url, response.headers.get("Location", ""), origin)
                continue
            if response.status != 200:
                raise FetchError(f"{url}: status {response.status}")
            return await _read_body(url, response)
    raise FetchError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _resolve_redirect(url: URL, location: str, origin: URL) -> URL:
    target = url.join(URL(location))
    if target.scheme != origin.scheme or target.origin() != origin:
        raise FetchError(f"{url}: redirects to another host, which is not followed")
    return target


async def _read_body(url: URL, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise FetchError(f"{url}: is larger than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)
