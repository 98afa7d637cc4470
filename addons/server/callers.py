"""Callers whose tokens other issuers have signed: the option connector_authentication, whatever the source is."""

from collections.abc import Callable, Coroutine
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
    config: Config, settings: Settings, access: Access, rights: UseAuthorizer
) -> tuple[Access, Callable[[], Coroutine[Any, Any, Never]] | None]:
    """`access`, and before it the issuers of the file, and what follows that; ParseError if it cannot be read."""
    if config.authentication is None:
        return access, None
    # Only there: the watcher of files is 2 MB that a pod without such a file does without.
    from connector_store.folder.authentication_file import AuthenticationFile

    trust = TrustStore()

    def create_keys(issuer: Issuer) -> IssuerKeys:
        return IssuerKeys(issuer, HttpsFetcher(trust.ssl_context(issuer.ca)), max_age=settings.jwks_max_age)

    issuer_access = IssuerAccess(access, rights, create_keys, recheck=config.recheck)
    file = AuthenticationFile(config.authentication, issuer_access.configure)
    file.load()
    return issuer_access, file.run
