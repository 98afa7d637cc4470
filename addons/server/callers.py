"""Authentication of callers with tokens of OIDC issuers (option connector_authentication), for every source."""

from collections.abc import Callable, Collection, Coroutine
from typing import Any, Never

from addons.server.options import Config
from connector_store.domain.callers.access import Access
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.domain.config.settings import Settings
from connector_store.oidc.fetch import HttpsFetcher
from connector_store.oidc.issuer_access import IssuerAccess, UseAuthorizer
from connector_store.oidc.issuer_keys import IssuerKeys
from connector_store.trust import TrustStore


def with_issuers(
    config: Config,
    settings: Settings,
    access: Access,
    rights: UseAuthorizer,
    disallowed_issuers: Collection[str],
    now: Callable[[], float],
) -> tuple[Access, Callable[[], Coroutine[Any, Any, Never]] | None]:
    """Add the issuers in the authentication file to `access`.

    Return the new access and the coroutine function that watches the file, or None without a file. Raises ParseError if
    the file cannot be read, or names one of `disallowed_issuers`, those of the cluster itself.
    """
    if config.authentication is None:
        return access, None
    # Imported only if needed, because the file watcher uses 2 MB of memory.
    from connector_store.folder.authentication_file import AuthenticationFile

    trust = TrustStore()

    def create_keys(issuer: Issuer) -> IssuerKeys:
        return IssuerKeys(issuer, HttpsFetcher(trust.ssl_context(issuer.ca)), max_age=settings.jwks_max_age)

    issuer_access = IssuerAccess(
        access,
        rights,
        create_keys,
        recheck=config.recheck,
        outage_grace=min(config.outage_grace, settings.stale_after),
        now=now,
    )
    file = AuthenticationFile(config.authentication, issuer_access.configure, disallowed_issuers=disallowed_issuers)
    file.load()
    return issuer_access, file.run
