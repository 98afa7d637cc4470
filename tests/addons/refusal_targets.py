"""Targets of every bad kind, and one that is good."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from lab.certificates import Issued, make_leaf
from tests.fakes.target import Conversation, Target


@asynccontextmanager
async def running_targets(home: Path, ca: Issued) -> AsyncIterator[Mapping[str, Target]]:
    """By the name of the Connector that leads to each."""
    leaf = make_leaf(ca, ["127.0.0.1"])
    targets = {
        "k8s": Target(leaf, home),
        "garbage": Target(leaf, home, _garbage),
        "refusing": Target(leaf, home, _refusing),
        "verbose": Target(leaf, home, _verbose),
        "leaving": Target(leaf, home, _leaving),
        "plain": Target(None, home, _plain),
        "silent": Target(None, home, _silent),
        "hanging-up": Target(None, home, _hanging_up),
    }
    async with AsyncExitStack() as stack:
        for each in targets.values():
            await stack.enter_async_context(each)
        yield targets


async def _garbage(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def _refusing(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


async def _verbose(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: %b\r\n\r\n" % (b"a" * 70_000))


async def _leaving(conversation: Conversation) -> None:
    await conversation.head()


async def _plain(conversation: Conversation) -> None:
    await conversation.say(b"220 mail.example ESMTP\r\n")
    await conversation.some()


async def _silent(conversation: Conversation) -> None:
    while await conversation.some():
        pass


async def _hanging_up(conversation: Conversation) -> None:
    await conversation.some()
