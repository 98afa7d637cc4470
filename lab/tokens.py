"""ServiceAccount tokens signed with the key of the cluster, like those of TokenRequest but with any lifetime.

Claims: https://github.com/kubernetes/enhancements/tree/master/keps/sig-auth/1205-bound-service-account-tokens
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab.admin_api import AdminApi


class TokenIssuer:
    def __init__(self, api: AdminApi, key_pem: str, issuer: str) -> None:
        self._api = api
        # Parsed once, because parsing takes a hundred times as long as a signature.
        key = load_pem_private_key(key_pem.encode(), None)
        assert isinstance(key, RSAPrivateKey)
        self._key = key
        self._issuer = issuer

    def issue(self, namespace: str, name: str, *, audiences: Sequence[str], lifetime: float) -> str:
        """Return a token of an existing ServiceAccount. With a negative lifetime it has expired."""
        return self.issue_many(1, namespace, name, audiences=audiences, lifetime=lifetime)[0]

    def issue_many(
        self, count: int, namespace: str, name: str, *, audiences: Sequence[str], lifetime: float
    ) -> list[str]:
        """Return `count` tokens with different IDs."""
        account = self._api.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        uid = account["metadata"]["uid"]
        return [self._sign(namespace, name, uid, audiences, lifetime) for _ in range(count)]

    def issue_for_pod(
        self, pod: Mapping[str, Any], account: Mapping[str, Any], *, audiences: Sequence[str], lifetime: float
    ) -> str:
        """Return a token of the ServiceAccount that is bound to the pod, as in its volume. Both are objects."""
        metadata, owner = pod["metadata"], account["metadata"]
        bound = {"pod": {"name": metadata["name"], "uid": metadata["uid"]}}
        return self._sign(owner["namespace"], owner["name"], owner["uid"], audiences, lifetime, bound)

    def _sign(
        self,
        namespace: str,
        name: str,
        uid: str,
        audiences: Sequence[str],
        lifetime: float,
        bound: Mapping[str, Any] = {},
    ) -> str:
        now = time.time()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": list(audiences),
            "iat": int(min(now, now + lifetime)) - 1,
            "nbf": int(min(now, now + lifetime)) - 1,
            "exp": int(now + lifetime),
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": uid},
                **bound,
            },
        }
        return jwt.encode(claims, self._key, algorithm="RS256")
