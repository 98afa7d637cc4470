"""Targets with every kind of fault, and one without."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from lab.certificates import KeyPair, make_leaf
from tests.fakes.target import FakeTarget, TargetConnection


@asynccontextmanager
async def running_targets(ca: KeyPair) -> AsyncIterator[Mapping[str, FakeTarget]]:
    """Run the targets, by the name of their Connector."""
    leaf = make_leaf(ca, ["127.0.0.1"])
    targets = {
        "k8s": FakeTarget(leaf),
        "garbage": FakeTarget(leaf, _garbage),
        "refusing": FakeTarget(leaf, _refusing),
        "verbose": FakeTarget(leaf, _verbose),
        "leaving": FakeTarget(leaf, _leaving),
        "plain": FakeTarget(None, _plain),
        "silent": FakeTarget(None, _silent),
        "hanging-up": FakeTarget(None, _hanging_up),
    }
    async with AsyncExitStack() as stack:
        for each in targets.values():
            await stack.enter_async_context(each)
        yield targets


async def _garbage(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def _refusing(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


async def _verbose(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: %b\r\n\r\n" % (b"a" * 70_000))


async def _leaving(conversation: TargetConnection) -> None:
    await conversation.read_head()


async def _plain(conversation: TargetConnection) -> None:
    await conversation.send(b"220 mail.example ESMTP\r\n")
    await conversation.read_some()


async def _silent(conversation: TargetConnection) -> None:
    while await conversation.read_some():
        pass


async def _hanging_up(conversation: TargetConnection) -> None:
    await conversation.read_some()
