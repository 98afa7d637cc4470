"""Proxy in front of a real API server whose tokens live for seconds; the API server itself grants ten minutes or more.

It signs each issued token again with the cluster's own key and an earlier expiry. The API server decides about its
user, the right to issue it, and its validity as for any other token.
"""

from dataclasses import dataclass
from typing import Any, Final

import jwt
from aiohttp import web

from lab.control_plane import ControlPlane
from tests.cluster.kube.front_proxy import FrontProxy

LEEWAY: Final = 60
"""Seconds for which an API server takes a token after its end (go-jose's DefaultLeeway): these end so much earlier."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    token: str
    id: str
    expires_at: float
    """Unix seconds, from which on the API server does not accept it any more."""


class ShortTokens(FrontProxy):
    """`issued` has the issued tokens by the name of their account."""

    def __init__(self, plane: ControlPlane, seconds: int) -> None:
        super().__init__(plane)
        self._key = plane.service_account_key.read_text()
        self._seconds = seconds
        self.issued: dict[str, list[IssuedToken]] = {}

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.split("/")
        if request.method != "POST" or path[-1] != "token":
            return await super()._handle(request)
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
        url, body = self.upstream(request), await request.read()
        async with self.session.post(url, headers=headers, data=body) as answer:
            content = await answer.json()
            if answer.status == 201:
                content["status"] = self._shorten(path[-2], content["status"]["token"])
            return web.json_response(content, status=answer.status)

    def _shorten(self, account: str, token: str) -> dict[str, Any]:
        claims = jwt.decode(token, options={"verify_signature": False})
        expires_at = claims["iat"] + self._seconds
        for name, value in (("iat", claims["iat"]), ("nbf", claims["iat"]), ("exp", expires_at)):
            claims[name] = value - LEEWAY
        issued = IssuedToken(jwt.encode(claims, self._key, algorithm="RS256"), claims["jti"], expires_at)
        self.issued.setdefault(account, []).append(issued)
        return {"token": issued.token}
