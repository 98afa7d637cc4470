"""Why a call of kubelet's cannot be done: a gRPC status as a value.

The message is shown in the events of the pod: it names the object, the field and the next step, and never a token.
"""

import errno
import os
from dataclasses import dataclass
from typing import Final

from grpc import StatusCode

from connector_store.domain.names import ObjectKey
from connector_store.domain.volume import Pod

USER_ROLE: Final = "connectors-user"
"""The ClusterRole of deploy/rbac that holds the right to use Connectors."""

_ADVICE: Final = {
    errno.EPERM: "the driver's container needs securityContext.privileged: true",
    errno.EACCES: "the driver's container needs securityContext.privileged: true",
    errno.ENOSPC: "the node, or the volume's tmpfs, is full",
    errno.ENOMEM: "the node has no memory left",
    errno.EBUSY: "a process of the node still uses it",
    errno.ENOTEMPTY: "there are files in it that are not the driver's; remove them",
}
_FULL: Final = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """kubelet takes every code as final but Canceled, DeadlineExceeded, Unavailable, ResourceExhausted and Aborted."""

    code: StatusCode
    message: str


def invalid(message: str) -> Failure:
    return Failure(code=StatusCode.INVALID_ARGUMENT, message=message)


def unavailable(message: str) -> Failure:
    return Failure(code=StatusCode.UNAVAILABLE, message=message)


def may_not_use(pod: Pod, key: ObjectKey) -> Failure:
    """One answer, whether there is no such Connector or the pod may not use it."""
    binding = f"{USER_ROLE}-{pod.service_account}"
    if pod.namespace != key.namespace:
        binding = f"{USER_ROLE}-{pod.namespace}-{pod.service_account}"
    command = (
        f"kubectl create rolebinding {binding} --clusterrole={USER_ROLE} "
        f"--serviceaccount={pod.namespace}:{pod.service_account} --namespace={key.namespace}"
    )
    return Failure(
        code=StatusCode.PERMISSION_DENIED,
        message=(
            f'connectors.connectors.alauda.io "{key.name}" in namespace "{key.namespace}" does not exist, or '
            f'ServiceAccount "{pod.service_account}" of namespace "{pod.namespace}" may not use it; '
            f"grant it by: {command}"
        ),
    )


def from_os(action: str, error: OSError) -> Failure:
    """What the kernel said about `action`."""
    code = StatusCode.RESOURCE_EXHAUSTED if error.errno in _FULL else StatusCode.INTERNAL
    said = os.strerror(error.errno) if error.errno else type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    return Failure(code=code, message=f"{action}: {said}" + (f"; {advice}" if advice else ""))
