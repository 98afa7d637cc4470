"""A cluster -> the store: every watch that the proxy and the CSI driver need, and no more than their roles allow."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Never

from connector_store.domain.auth import SELECTORS
from connector_store.domain.cursor import Raw
from connector_store.domain.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.named_secrets import NamedSecrets
from connector_store.kube.reflector import WATCH_TIMEOUT, Reflector, Sink
from connector_store.kube.resources import CA_SECRETS, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import Fork, Reader, StoreSink, parser
from connector_store.store import Object, Store


class ClusterSource:
    """Fills `store`, which is synced when all of these have listed: Connectors, classes, Secrets by type, CA Secrets.

    Connectors are watched in `namespaces`, or in all of them; `run` never returns.
    """

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        *,
        system_namespace: str,
        namespaces: Sequence[str] | None = None,
        watch_timeout: float = WATCH_TIMEOUT,
        on_restart: Callable[[str], None] = lambda kind: None,
        on_known: Callable[[ObjectKey], None] = lambda key: None,
        readers: Mapping[Resource, Reader] = MappingProxyType({}),
    ) -> None:
        """`on_known` gets a Secret when `knows` turns true for it; `readers` share the watches of their resources."""
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._watch_timeout = watch_timeout
        self._on_restart = on_restart
        self._readers = readers
        self._parse: Callable[[Raw], Object | None] = parser(system_namespace)
        self._reflectors = [self._listed(CONNECTOR_CLASSES)[0]]
        self._tokens: list[StoreSink] = []
        for namespace in [None] if namespaces is None else sorted(set(namespaces)):
            self._reflectors.append(self._listed(CONNECTORS, namespace)[0])
            for selector in SELECTORS:
                reflector, sink = self._listed(SECRETS, namespace, field_selector=selector)
                self._reflectors.append(reflector)
                self._tokens.append(sink)
        self._reflectors.append(self._listed(SECRETS, system_namespace, label_selector=CA_SECRETS)[0])
        self._named_secrets = NamedSecrets(store, self._have_token, self._named, on_known=on_known)

    def knows(self, key: ObjectKey) -> bool:
        """Whether a Secret that a Connector names, and the store lacks, is known to be absent."""
        return self._named_secrets.knows(key)

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            for reflector in self._reflectors:
                await reflector.synced.wait()
            self.synced.set()
            # Only now is it known which Secrets the others bring.
            tasks.create_task(self._named_secrets.run())
        raise AssertionError("a reflector ended")

    def _listed(
        self, resource: Resource, namespace: str | None = None, *, field_selector: str = "", label_selector: str = ""
    ) -> tuple[Reflector[Any], StoreSink]:
        """A reflector that the store waits for."""
        source = " ".join(filter(None, (resource.kind, namespace, field_selector, label_selector)))
        self._store.expect(source)
        sink = StoreSink(self._store, source)
        shared = [self._readers[resource]] if resource in self._readers else []
        fork = Fork((self._parse, sink), *shared)
        return self._reflector(resource, fork.parse, fork, namespace, field_selector, label_selector), sink

    def _named(self, key: ObjectKey, source: str) -> Reflector[Object]:
        sink = StoreSink(self._store, source)
        return self._reflector(SECRETS, self._parse, sink, key.namespace, f"metadata.name={key.name}", quiet=True)

    def _have_token(self, key: ObjectKey) -> bool:
        return any(key in sink.names for sink in self._tokens)

    def _reflector[T](
        self,
        resource: Resource,
        parse: Callable[[Raw], T | None],
        sink: Sink[T],
        namespace: str | None,
        field_selector: str = "",
        label_selector: str = "",
        *,
        quiet: bool = False,
    ) -> Reflector[T]:
        return Reflector(
            self._client,
            resource,
            parse,
            sink,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            watch_timeout=self._watch_timeout,
            on_restart=self._on_restart,
            quiet=quiet,
        )
