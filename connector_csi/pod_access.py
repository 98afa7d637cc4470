"""Access of pods that RBAC does not give: by an AccessPolicy, or by an access request of the driver.

The driver reads policies and requests only after a refusal, so other volumes cost nothing. A pod learns nothing about
Connectors: the driver asks for each pod whose ServiceAccount may create access requests in the Connector's namespace.
"""

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from connector_csi.failure import Failure, unavailable
from connector_csi.mount_requests import MountRequest
from connector_store.domain.base.label_selector import Labels
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity, Refused
from connector_store.domain.grants.default_permission import find_default_policy
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.manifest_access import parse_access_policy, parse_namespace
from connector_store.domain.objects.models import Connector, InvalidConnector
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.kube.resources import ACCESS_POLICIES, ACCESS_REQUESTS, NAMESPACES, SELF_SUBJECT_REVIEWS
from connector_store.kube.review import service_account


class PodAccess:
    """Access by policies and requests, for pods of the node `node`."""

    def __init__(
        self,
        client: KubeClient,
        node: str,
        load_connectors: Callable[[Iterable[ObjectKey]], Awaitable[None]],
        get_connector: Callable[[ObjectKey], Connector | InvalidConnector | None],
    ) -> None:
        """Create the access. `get_connector` returns a Connector after `load_connectors`."""
        self._client = client
        self._node = node
        self._load_connectors = load_connectors
        self._get_connector = get_connector
        self._user = ""

    async def check(
        self, pod: Pod, key: ObjectKey, refusal: Refused, denied: Failure, *, is_new: bool
    ) -> Failure | None:
        """Return None if the pod may use the Connector, or why not.

        `refusal` is the API server's answer, and `denied` the Failure for a pod that may not ask either. For a new
        volume, the driver creates the request.
        """
        if refusal.has_opinion or refusal.authentication is None:
            return denied
        try:
            if await self._is_let_in(refusal.authentication.identity, key):
                return None
            return await self._check_request(pod, key, denied, may_ask=is_new and refusal.may_request)
        except ApiError as error:
            # The namespace does not exist, or this API server does not have the kinds.
            if error.status == HTTPStatus.NOT_FOUND:
                return denied
            return unavailable(f"access requests could not be checked: {error}")

    async def _is_let_in(self, identity: Identity, key: ObjectKey) -> bool:
        """Return True if the defaultPermission of a policy lets the caller use the Connector."""
        listed = map(parse_access_policy, await self._client.list_objects(ACCESS_POLICIES.path(key.namespace)))
        policies = [policy for policy in listed if policy.accounts]
        if not policies:
            return False
        await self._load_connectors([key])
        connector = self._get_connector(key)
        if not isinstance(connector, Connector):
            return False
        uses_labels = any(each.namespaces.uses_labels for policy in policies for each in policy.accounts)
        labels = await self._read_labels(identity) if uses_labels else None
        return find_default_policy(policies, connector, identity, lambda _: labels) is not None

    async def _read_labels(self, identity: Identity) -> Labels | None:
        """Return the labels of the namespace of a ServiceAccount."""
        account = service_account(identity)
        if account is None:
            return None
        return parse_namespace(await self._client.get(NAMESPACES.path(None, account.namespace))).labels

    async def _check_request(self, pod: Pod, key: ObjectKey, denied: Failure, *, may_ask: bool) -> Failure | None:
        request = MountRequest(pod=pod, connector=key, requester=await self._read_user(), node=self._node)
        raw = await self._client.find(ACCESS_REQUESTS.path(*request.key))
        if raw is not None:
            return request.assess(raw, self._client.clock.now())
        if not may_ask:
            return denied
        await self._create(request)
        return request.waiting()

    async def _create(self, request: MountRequest) -> None:
        # Another call of kubelet for the same volume may have created it.
        with suppress_status(HTTPStatus.CONFLICT):
            await self._client.create(ACCESS_REQUESTS.path(request.key.namespace), request.manifest)

    async def _read_user(self) -> str:
        """Return the driver's own user name, which is the requester."""
        if not self._user:
            body = {"apiVersion": SELF_SUBJECT_REVIEWS.api_version, "kind": SELF_SUBJECT_REVIEWS.kind}
            review = await self._client.create(SELF_SUBJECT_REVIEWS.path(), body)
            self._user = str(review["status"]["userInfo"]["username"])
        return self._user
