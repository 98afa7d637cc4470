"""Failures of kubelet's calls: a gRPC status as a value.

The events of the pod show the message. It names the object, the field and the next step, and never a token.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grpc import StatusCode

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.manifest import API_GROUP

MAX_MESSAGE: Final = 1024
"""Maximum characters of a message, as in an event. A client on gRPC core accepts 8 kB."""
_MAX_JOINED: Final = 3
"""Failures of one volume that a message contains in full."""

_ROLES: Final = {
    AccessRule("use", "connectors", "proxy"): "connectors-user",
    AccessRule("get", "connectors"): "connectors-viewer",
}
"""The ClusterRole of deploy/rbac that has the right in the setting `access`."""

_ADVICE: Final = {
    errno.EPERM: "the driver's container needs securityContext.privileged: true",
    errno.EACCES: "the driver's container needs securityContext.privileged: true",
    errno.ENOSPC: "the node, or the volume's tmpfs, is full",
    errno.ENOMEM: "the node has no memory left",
    errno.EBUSY: "a process of the node still uses it",
    errno.ENOTEMPTY: "there are files in it that are not the driver's; remove them",
}
_RETRIABLE_CODES: Final = frozenset(
    {
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.ABORTED,
    }
)
_EXHAUSTED_ERRNOS: Final = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed call. `message` is for the user."""

    code: StatusCode
    message: str
    is_decided: bool = False
    """An access request was denied, or its access has ended. A new volume then has only an error file."""

    @property
    def is_final(self) -> bool:
        """True if kubelet treats the code as final (kubernetes pkg/volume/csi, isFinalError)."""
        return self.code not in _RETRIABLE_CODES


def invalid(message: str) -> Failure:
    return Failure(code=StatusCode.INVALID_ARGUMENT, message=message)


def unavailable(message: str) -> Failure:
    return Failure(code=StatusCode.UNAVAILABLE, message=message)


def permission_denied(pod: Pod, key: ObjectKey, rule: AccessRule) -> Failure:
    """Return the same Failure for a missing Connector and a missing right. `rule` is the setting `access`."""
    return Failure(
        code=StatusCode.PERMISSION_DENIED,
        message=(
            f'connectors.connectors.alauda.io "{key.name}" in namespace "{key.namespace}" does not exist, or '
            f'ServiceAccount "{pod.service_account}" of namespace "{pod.namespace}" may not use it; '
            f"grant it by: {_grant_command(pod, key, rule)}"
        ),
    )


def _grant_command(pod: Pod, key: ObjectKey, rule: AccessRule) -> str:
    role = _ROLES.get(rule)
    binding = f"{role or 'ROLE'}-{pod.service_account}"
    if pod.namespace != key.namespace:
        binding = f"{role or 'ROLE'}-{pod.namespace}-{pod.service_account}"
    command = (
        f"kubectl create rolebinding {binding} --clusterrole={role or 'ROLE'} "
        f"--serviceaccount={pod.namespace}:{pod.service_account} --namespace={key.namespace}"
    )
    if role is not None:
        return command
    resource = f"{rule.resource}/{rule.subresource}" if rule.subresource else rule.resource
    return f"{command}, with a ClusterRole that has verb {rule.verb} on {resource} in {API_GROUP}"


def join_failures(failures: Sequence[Failure]) -> Failure:
    """Join `failures` (at least one) into one Failure with the first one's code and the first few messages."""
    messages = [failure.message for failure in failures[:_MAX_JOINED]]
    if omitted_count := len(failures) - len(messages):
        messages.append(f"and {omitted_count} more")
    return Failure(code=failures[0].code, message="; ".join(messages))


def truncate(message: str) -> str:
    """Cut `message` to a length that every client and every event accepts."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def from_os_error(action: str, error: OSError) -> Failure:
    """Convert the kernel's error of `action`, with advice for well-known ones. The error's own text is not used."""
    code = StatusCode.RESOURCE_EXHAUSTED if error.errno in _EXHAUSTED_ERRNOS else StatusCode.INTERNAL
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    return Failure(code=code, message=f"{action}: {reason}" + (f"; {advice}" if advice else ""))
