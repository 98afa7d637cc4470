"""Small API server in this process, at the HTTP level: collections, pages, watches, reviews, and injected faults.

For fast tests of what a real one does only by chance; `tests/cluster` has the real one.
"""

import asyncio
import copy
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web

from connector_store.kube.configuration import Configuration
from connector_store.kube.resources import Resource
from tests.fakes.api_rules import as_requested, is_collection, is_selected, merge_patch
from tests.fakes.waiting import stop_accepting

Json = dict[str, Any]
Fault = Callable[[web.Request], web.StreamResponse | None]


@dataclass(frozen=True)
class _Change:
    version: int
    type: str
    object: Json
    path: str


@dataclass
class FakeApiServer:
    """API server with objects by path. `url` is set while it serves."""

    watch_list: bool = True
    """If False, sendInitialEvents is refused, as by a server without the feature."""
    users: dict[str, Json] = field(default_factory=dict)
    """`status` of the TokenReview by token."""
    allowed: set[tuple[str, str]] = field(default_factory=set)
    """Pairs (user, "namespace/name") that a SubjectAccessReview allows."""
    faults: list[Fault] = field(default_factory=list)
    """Functions that are called first, in order. The first result that is not None is the response."""
    drops_response: Callable[[web.Request], bool] = lambda _: False
    """Returns True for requests that are performed although their response is a timeout."""
    unserved: set[str] = field(default_factory=set)
    """Collections (last segment of the path) that are not served."""
    requests: list[tuple[str, str, Json]] = field(default_factory=list)
    """Method, path, and query with body of every request."""

    def __post_init__(self) -> None:
        self.url = ""
        self._objects: dict[str, Json] = {}
        self._log: list[_Change] = []
        self._version = 100
        self._oldest_version = 0
        self._log_changed = asyncio.Condition()
        self._streams: set[web.StreamResponse] = set()

    @property
    def configuration(self) -> Configuration:
        return Configuration(host=self.url)

    def count(self, method: str, suffix: str) -> int:
        return Counter((m, p.rsplit("/", 1)[-1]) for m, p, _ in self.requests)[(method, suffix)]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeApiServer"]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            assert site._server is not None
            await stop_accepting(site._server)
            await runner.cleanup()

    async def put(self, resource: Resource, obj: Json) -> Json:
        """Create or replace an object as if by kubectl."""
        metadata = obj["metadata"]
        base = resource.path(metadata.get("namespace"))
        path = f"{base}/{metadata['name']}"
        old = self._objects.get(path)
        self._version += 1
        stored = {
            "apiVersion": f"{resource.group}/{resource.version}" if resource.group else resource.version,
            "kind": resource.kind,
            **copy.deepcopy(obj),
        }
        stored["metadata"] |= {"resourceVersion": str(self._version), "uid": f"uid-{path}"}
        self._objects[path] = stored
        await self._record("MODIFIED" if old else "ADDED", path, stored)
        return stored

    async def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        await self._delete(resource.path(namespace, name))

    async def bookmark(self, resource: Resource) -> None:
        """Advance every watch of the resource past changes of other resources."""
        self._version += 1
        metadata = {"resourceVersion": str(self._version)}
        await self._record("BOOKMARK", resource.path() + "/", {"kind": resource.kind, "metadata": metadata})

    def compact(self) -> None:
        """Expire all versions up to now. Open watches continue."""
        self._oldest_version = self._version

    def save(self) -> tuple[int, dict[str, Json]]:
        """Return a snapshot for `restore`."""
        return self._version, copy.deepcopy(self._objects)

    def restore(self, snapshot: tuple[int, dict[str, Json]]) -> None:
        """Go back to a snapshot, as etcd does after a restore. Open watches break."""
        self._version, self._objects = snapshot
        self._log.clear()
        self.drop_streams()

    @property
    def watched_paths(self) -> set[str]:
        """Paths of the open watches."""
        return {stream._req.path for stream in self._streams if stream._req is not None}

    def drop_streams(self) -> None:
        """Abort the connection of every open watch."""
        for stream in tuple(self._streams):
            if stream._req is not None and stream._req.transport is not None:
                stream._req.transport.abort()

    async def _record(self, kind: str, path: str, obj: Json) -> None:
        async with self._log_changed:
            self._log.append(_Change(self._version, kind, copy.deepcopy(obj), path))
            self._log_changed.notify_all()

    async def _delete(self, path: str) -> Json:
        deleted = self._objects.pop(path)
        self._version += 1
        deleted["metadata"]["resourceVersion"] = str(self._version)
        await self._record("DELETED", path, deleted)
        return deleted

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read() or b"null")
        self.requests.append((request.method, request.path, {**request.query, "body": body}))
        for fault in self.faults:
            if (response := fault(request)) is not None:
                return response
        result = await self._respond(request, body)
        return (
            refusal(504, "Timeout", "request did not complete within the time")
            if self.drops_response(request)
            else result
        )

    async def _respond(self, request: web.Request, body: Json) -> web.StreamResponse:
        last = request.path.rsplit("/", 1)[-1]
        if last in self.unserved:
            return web.Response(status=404, text="404 page not found")
        match (request.method, last):
            case ("POST", "tokenreviews"):
                return self._token_review(body)
            case ("POST", "subjectaccessreviews"):
                return self._access_review(body)
            case ("POST", "selfsubjectreviews"):
                return web.json_response({"status": {"userInfo": {"username": "fake"}}}, status=201)
            case ("POST", plural) if plural.startswith("access") and request.query.get("dryRun"):
                return _refuse_forgery(plural)
            case ("POST", "token"):
                token = f"token-of-{request.path.split('/')[-2]}"
                return web.json_response({"status": {"token": token}, "spec": body["spec"]}, status=201)
            case ("GET", _) if request.query.get("watch"):
                return await self._watch(request)
            case ("GET", _) if request.path not in self._objects and is_collection(request.path):
                return self._list(request)
            case _:
                return await self._handle_object(request, body)

    async def _handle_object(self, request: web.Request, body: Json) -> web.Response:
        path = request.path.removesuffix("/status")
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self._objects:
                return refusal(409, "AlreadyExists", "already exists")
        elif path not in self._objects:
            return refusal(404, "NotFound", f'"{path.rsplit("/", 1)[-1]}" not found')
        if request.method == "GET":
            return web.json_response(self._objects[path])
        if request.method == "DELETE":
            return web.json_response(await self._delete(path))
        old = self._objects.get(path)
        if request.method in ("PUT", "PATCH") and old is not None:
            patch = body.get("metadata") or {}
            metadata = old["metadata"]
            if any(patch.get(name) not in (None, metadata[name]) for name in ("resourceVersion", "uid")):
                return refusal(409, "Conflict", "the object has been modified")
        new = merge_patch(old or {}, body) if request.method == "PATCH" else copy.deepcopy(body)
        if request.query.get("dryRun"):
            return web.json_response(new, status=201 if request.method == "POST" else 200)
        self._version += 1
        new["metadata"] |= {"resourceVersion": str(self._version), "uid": f"uid-{path}"}
        if request.method == "POST" and "/namespaces/" in path:
            new["metadata"]["namespace"] = path.split("/namespaces/")[1].split("/")[0]
        self._objects[path] = new
        await self._record("MODIFIED" if old else "ADDED", path, new)
        return web.json_response(new, status=201 if request.method == "POST" else 200)

    def _list(self, request: web.Request) -> web.Response:
        items = [obj for path, obj in sorted(self._objects.items()) if is_selected(request, path, obj)]
        start = int(request.query.get("continue", "0"))
        end = start + int(request.query.get("limit", "1000000"))
        metadata = {"resourceVersion": str(self._version)} | ({"continue": str(end)} if end < len(items) else {})
        bare = [
            {key: value for key, value in as_requested(request, obj).items() if key not in ("apiVersion", "kind")}
            for obj in items
        ]
        return web.json_response({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": bare[start:end]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        initial = request.query.get("sendInitialEvents") == "true"
        if initial and not self.watch_list:
            return refusal(422, "Invalid", "sendInitialEvents is forbidden for watch")
        since = self._version if initial else int(request.query["resourceVersion"])
        if since < self._oldest_version:
            return refusal(410, "Expired", f"too old resource version: {since} ({self._oldest_version})")
        stream = web.StreamResponse()
        await stream.prepare(request)
        self._streams.add(stream)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                if initial:
                    for path, obj in sorted(self._objects.items()):
                        if is_selected(request, path, obj):
                            await _send(stream, "ADDED", as_requested(request, obj))
                    end = {"resourceVersion": str(since), "annotations": {"k8s.io/initial-events-end": "true"}}
                    await _send(stream, "BOOKMARK", {"metadata": end})
                await self._follow(request, stream, since)
        except (TimeoutError, ConnectionResetError):
            return stream
        finally:
            self._streams.discard(stream)
        raise AssertionError("a watch never ends by itself")

    async def _follow(self, request: web.Request, stream: web.StreamResponse, since: int) -> None:
        position = 0
        while True:
            for change in self._log[position:]:
                if change.version > since and is_selected(request, change.path, change.object, change.type):
                    await _send(stream, change.type, as_requested(request, change.object))
            position = len(self._log)
            async with self._log_changed:
                while len(self._log) == position:
                    await self._log_changed.wait()

    def _token_review(self, body: Json) -> web.Response:
        status = self.users.get(body["spec"]["token"])
        if status is None:
            status = {"authenticated": False, "error": "invalid"}
        return web.json_response({**body, "status": status}, status=201)

    def _access_review(self, body: Json) -> web.Response:
        attributes = body["spec"]["resourceAttributes"]
        allowed = (body["spec"]["user"], f"{attributes['namespace']}/{attributes['name']}") in self.allowed
        return web.json_response({**body, "status": {"allowed": allowed}}, status=201)


def refusal(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
    return web.json_response(body, status=status, headers=headers)


def _refuse_forgery(plural: str) -> web.Response:
    """Refuse an access object as our admission policies do."""
    rules = "spec.requester: spec.subject: spec.by: spec.policyRef.name: an AccessPolicy gives the use of Connectors"
    return refusal(403, "Forbidden", f"ValidatingAdmissionPolicy '{plural}.connectors.alauda.io' denied it: {rules}")


class NoResponse(web.Response):
    """Response that is never sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        await asyncio.Event().wait()


def issue_token(name: str) -> str:
    """Return a token that the proxy lets the API server review."""
    issuer = "https://kubernetes.default.svc"
    claims = {"iss": issuer, "aud": ["connectors-proxy"], "sub": name, "exp": int(time.time()) + 3600}
    return jwt.encode(claims, "k" * 32)


def user(name: str, audiences: tuple[str, ...] = ("connectors-proxy",), **more: Any) -> Json:
    """Return the `status` of a TokenReview that accepts the token."""
    return {"authenticated": True, "audiences": list(audiences), "user": {"username": name, **more}}


async def _send(stream: web.StreamResponse, kind: str, obj: Json) -> None:
    await stream.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
