"""A store that follows a control plane, and helpers to wait for its content."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target, Unusable
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.store import Store
from tests.cluster.kube.installation import SYSTEM


@asynccontextmanager
async def running_store(client: KubeClient, **options: Any) -> AsyncIterator[Store]:
    store = Store()
    source = ClusterWatches(client, store, system_namespace=SYSTEM, **options)
    task = asyncio.create_task(source.run())
    try:
        yield store
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def token_of(store: Store, key: ObjectKey) -> str:
    target = store.get(key)
    if not isinstance(target, Target) or target.credential is None:
        return ""
    return (target.credential.authorization or b"").decode().removeprefix("Bearer ")


def unusable_reason(store: Store, key: ObjectKey) -> str:
    target = store.get(key)
    return target.reason if isinstance(target, Unusable) else ""
