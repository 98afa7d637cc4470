"""The watch protocol: after any events and errors, the applied state is the server's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_store.domain.objects.watch_cursor import (
    EXPIRED,
    INITIAL_EVENTS_END,
    MAX_EVENT,
    Deleted,
    HistoryRewoundError,
    LastChange,
    Listed,
    PositionLostError,
    RawObject,
    Upserted,
    WatchCursor,
    WatchError,
)


def obj(name: str, version: int | str, value: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "value": value}


def line(kind: str, raw: object) -> bytes:
    return json.dumps({"type": kind, "object": raw}).encode() + b"\n"


def bookmark(version: int, *, ends_initial: bool = False) -> bytes:
    annotations = {"annotations": {INITIAL_EVENTS_END: "true"}} if ends_initial else {}
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version), **annotations}})


def name(raw: RawObject) -> str:
    return str(raw["metadata"]["name"])


def watching(version: str = "1") -> WatchCursor[str]:
    cursor = WatchCursor(name)
    cursor.finish_list(version)
    return cursor


@pytest.mark.parametrize(
    ("data", "events", "version"),
    [
        pytest.param(line("ADDED", obj("a", 7)), [Upserted("a")], "7", id="an added object is put"),
        pytest.param(line("MODIFIED", obj("a", 8)), [Upserted("a")], "8", id="a modified object is put"),
        pytest.param(line("DELETED", obj("a", 9)), [Deleted("a")], "9", id="a deleted object is deleted"),
        pytest.param(bookmark(10), [], "10", id="a bookmark only moves the position"),
        pytest.param(bookmark(10, ends_initial=True), [], "10", id="a later end of initial events replaces nothing"),
        pytest.param(line("NEWS", obj("a", 11)), [], "11", id="an unknown type only moves the position"),
        pytest.param(b"\n  \n" + line("ADDED", obj("a", 7)), [Upserted("a")], "7", id="blank lines are skipped"),
        pytest.param(line("ADDED", obj("a", 7))[:-1], [], "1", id="an unfinished line is not read"),
        pytest.param(
            line("ERROR", {"code": 500, "message": "no"}),
            [WatchError(500, "no")],
            None,
            id="an error discards the position",
        ),
        pytest.param(
            line("ERROR", {"code": 429, "message": "busy"}), [WatchError(429, "busy")], "1", id="429 keeps the position"
        ),
        pytest.param(
            line("ERROR", {"code": EXPIRED, "message": "old"}),
            [WatchError(EXPIRED, "old")],
            None,
            id="410 discards the position",
        ),
        pytest.param(line("ERROR", {}), [WatchError(0, "no message")], None, id="an error without a message"),
    ],
)
def test_a_line_is_read(data: bytes, events: list[object], version: str | None) -> None:
    cursor = watching()
    assert list(cursor.feed(data)) == events
    assert cursor.resource_version == version


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<html>\n", id="no JSON"),
        pytest.param(b"\xff\n", id="no text"),
        pytest.param(b"[]\n", id="no object"),
        pytest.param(b'{"type": 1, "object": {}}\n', id="a type that is not a string"),
        pytest.param(b'{"type": "ADDED", "object": []}\n', id="an object that is a list"),
        pytest.param(line("ADDED", {}), id="an object without metadata"),
        pytest.param(line("ADDED", {"metadata": {}}), id="an object without a version"),
        pytest.param(line("ADDED", {"metadata": {"resourceVersion": ""}}), id="an object with an empty version"),
        pytest.param(b"x" * (MAX_EVENT + 1), id="a line without an end"),
    ],
)
def test_invalid_streams_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(watching().feed(data))


@pytest.mark.parametrize(
    ("position", "version", "is_rewound"),
    [
        pytest.param("479", "256", True, id="an older version"),
        pytest.param("1000", "999", True, id="an older version with fewer digits"),
        pytest.param("479", "479", False, id="the same version"),
        pytest.param("999", "1000", False, id="a newer version with more digits"),
        pytest.param("b", "a", False, id="versions that are not numbers"),
        pytest.param("479", "a", False, id="a version that is not a number"),
        pytest.param("٤", "3", False, id="digits that are not ASCII"),
    ],
)
def test_an_older_version_of_the_server_discards_the_position(position: str, version: str, is_rewound: bool) -> None:
    cursor = watching(position)
    if is_rewound:
        with pytest.raises(HistoryRewoundError, match=f"went back from version {position} to {version}"):
            cursor.check_version(version)
    else:
        cursor.check_version(version)
    assert cursor.resource_version == (None if is_rewound else position)


def test_without_a_position_every_version_is_accepted() -> None:
    WatchCursor(name).check_version("1")


def test_an_event_that_is_older_than_the_position_discards_it() -> None:
    cursor = watching("479")
    with pytest.raises(HistoryRewoundError):
        list(cursor.feed(line("MODIFIED", obj("a", 256))))
    assert cursor.resource_version is None


def listed() -> WatchCursor[str]:
    cursor = WatchCursor(name)
    cursor.add_page([obj("a", 7), obj("b", 9), obj("c", 8)])
    cursor.finish_list("20")
    return cursor


@pytest.mark.parametrize(
    ("data", "last_change"),
    [
        pytest.param(b"", LastChange("", "b", "9"), id="the newest object of the list"),
        pytest.param(line("MODIFIED", obj("c", 21)), LastChange("", "c", "21"), id="a changed object"),
        pytest.param(line("DELETED", obj("a", 22)), LastChange("", "a", "22", exists=False), id="a deleted object"),
        pytest.param(bookmark(23), LastChange("", "b", "9"), id="a bookmark is not a change"),
    ],
)
def test_the_last_change_is_remembered(data: bytes, last_change: LastChange) -> None:
    cursor = listed()
    list(cursor.feed(data))
    assert cursor.last_change == last_change
    cursor.restart()
    assert cursor.last_change is None


@pytest.mark.parametrize(
    ("data", "items", "error"),
    [
        pytest.param(b"", [obj("b", 9)], None, id="the object is as it was"),
        pytest.param(b"", [obj("b", 30)], None, id="the object changed meanwhile"),
        pytest.param(b"", [obj("b", 3)], HistoryRewoundError, id="the object is older than it was"),
        pytest.param(b"", [], PositionLostError, id="the object is gone"),
        pytest.param(line("DELETED", obj("a", 22)), [], None, id="the deleted object is gone"),
        pytest.param(line("DELETED", obj("a", 22)), [obj("a", 30)], None, id="the deleted object was created again"),
        pytest.param(
            line("DELETED", obj("a", 22)), [obj("a", 7)], HistoryRewoundError, id="the deleted object is back"
        ),
    ],
)
def test_the_last_change_is_compared_with_the_servers_state(
    data: bytes, items: list[RawObject], error: type[Exception] | None
) -> None:
    cursor = listed()
    list(cursor.feed(data))
    if error is None:
        cursor.check_last_change(items)
        assert cursor.resource_version is not None
    else:
        with pytest.raises(PositionLostError) as raised:
            cursor.check_last_change(items)
        assert raised.type is error
        assert cursor.resource_version is None


def test_without_a_last_change_nothing_is_compared() -> None:
    watching().check_last_change([obj("a", 0)])


def test_the_annotation_is_kubernetes_own() -> None:
    assert INITIAL_EVENTS_END == "k8s.io/initial-events-end"


def test_a_line_as_long_as_the_limit_is_buffered() -> None:
    assert list(watching().feed(b"x" * MAX_EVENT)) == []


def test_each_line_is_read_once_however_the_stream_is_split() -> None:
    data = line("ADDED", obj("a", 7)) + line("MODIFIED", obj("a", 8)) + line("DELETED", obj("a", 9))
    for size in (1, 7, len(data)):
        cursor = watching()
        events = [each for at in range(0, len(data), size) for each in cursor.feed(data[at : at + size])]
        assert events == [Upserted("a"), Upserted("a"), Deleted("a")]


def test_after_a_restart_a_full_list_is_read() -> None:
    cursor = watching()
    assert list(cursor.feed(b'{"type": "ADD')) == []
    cursor.restart()
    assert list(cursor.feed(line("ADDED", obj("a", 2)) + bookmark(3, ends_initial=True))) == [Listed(("a",))]
    assert list(cursor.feed(line("ADDED", obj("b", 4)))) == [Upserted("b")]
    cursor.restart()
    assert list(cursor.feed(bookmark(5, ends_initial=True))) == [Listed(())]


def test_a_full_list_is_progress_and_starts_empty() -> None:
    cursor = WatchCursor(name)
    cursor.add_page([obj("a", 1)])
    previous_count = cursor.progress_count
    assert cursor.finish_list("4") == Listed(("a",))
    assert cursor.progress_count > previous_count
    assert cursor.finish_list("5") == Listed(())


def test_objects_for_which_parse_returns_none_are_skipped() -> None:
    cursor: WatchCursor[str] = WatchCursor(lambda raw: None)
    cursor.add_page([obj("a", 1)])
    assert cursor.finish_list("4") == Listed(())
    assert list(cursor.feed(line("ADDED", obj("b", 5)))) == []
    assert cursor.resource_version == "5"


def test_a_list_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="resourceVersion"):
        WatchCursor(name).finish_list("")


def test_initial_events_are_one_list_and_not_resumable() -> None:
    cursor = WatchCursor(name)
    early = line("ADDED", obj("a", 9)) + line("ADDED", obj("b", 3)) + line("MODIFIED", obj("b", 10)) + bookmark(10)
    assert list(cursor.feed(early + line("DELETED", obj("a", 11)))) == []
    assert cursor.resource_version is None
    assert list(cursor.feed(bookmark(12, ends_initial=True))) == [Listed(("b",))]
    assert cursor.resource_version == "12"


def test_events_of_a_broken_initial_stream_are_discarded() -> None:
    cursor = WatchCursor(name)
    assert list(cursor.feed(line("ADDED", obj("gone", 9)) + b'{"type"')) == []
    cursor.start_request()
    assert list(cursor.feed(line("ADDED", obj("a", 10)) + bookmark(12, ends_initial=True))) == [Listed(("a",))]


def test_many_fruitless_streams_discard_the_position_and_one_event_resets_the_count() -> None:
    cursor = watching()
    for _ in range(4):
        cursor.count_broken_stream()
    assert list(cursor.feed(bookmark(2))) == []
    for _ in range(4):
        cursor.count_broken_stream()
    assert cursor.resource_version == "2"
    cursor.count_broken_stream()
    assert cursor.resource_version is None
    cursor.finish_list("3")
    for _ in range(4):
        cursor.count_broken_stream()
    assert cursor.resource_version == "3"


def test_an_initial_event_resets_the_count() -> None:
    cursor = WatchCursor(name)
    for _ in range(4):
        cursor.count_broken_stream()
    assert list(cursor.feed(line("ADDED", obj("a", 1)))) == []
    cursor.count_broken_stream()
    assert list(cursor.feed(bookmark(2, ends_initial=True))) == [Listed(("a",))]


def test_streams_with_only_error_events_are_fruitless() -> None:
    cursor = watching()
    for _ in range(5):
        list(cursor.feed(line("ERROR", {"code": 429, "message": "busy"})))
        cursor.count_broken_stream()
    assert cursor.resource_version is None


@pytest.mark.parametrize(
    ("data", "moves"),
    [
        pytest.param(line("ADDED", obj("a", 7)), True, id="a change"),
        pytest.param(bookmark(7), True, id="a bookmark"),
        pytest.param(line("ERROR", {"code": 429}), False, id="an error event"),
        pytest.param(b"\n", False, id="a blank line"),
    ],
)
def test_changes_and_bookmarks_are_progress(data: bytes, moves: bool) -> None:
    cursor = watching()
    previous_count = cursor.progress_count
    list(cursor.feed(data))
    assert (cursor.progress_count > previous_count) is moves


class Server:
    """Fake API server with a history of changes by version, down to `oldest`."""

    def __init__(self) -> None:
        self.version = 10
        self.oldest = 10
        self.state: dict[str, int] = {}
        self.log: list[tuple[int, bytes]] = []

    def change(self, which: str, value: int | None) -> None:
        self.version += 1
        if value is None:
            if which in self.state:
                old = self.state.pop(which)
                self.log.append((self.version, line("DELETED", obj(which, self.version, old))))
            return
        kind = "MODIFIED" if which in self.state else "ADDED"
        self.state[which] = value
        self.log.append((self.version, line(kind, obj(which, self.version, value))))

    def initial(self) -> bytes:
        lines = [line("ADDED", obj(each, 1, value)) for each, value in sorted(self.state.items())]
        return b"".join(lines) + bookmark(self.version, ends_initial=True)

    def since(self, version: int) -> bytes:
        return b"".join(text for at, text in self.log if at > version)


Pair = tuple[str, int]


class Client:
    """Loop around a cursor, without time and network."""

    def __init__(self) -> None:
        self.cursor: WatchCursor[Pair] = WatchCursor(lambda raw: (name(raw), int(raw["value"])))
        self.store: dict[str, int] = {}

    def connect(self, server: Server, draw: st.DrawFn | None) -> None:
        """Make one list or one watch. `draw` breaks it somewhere; None lets it complete."""
        self.cursor.start_request()
        version = self.cursor.resource_version
        if version is None:
            if draw is not None and draw(st.booleans()):
                self.list(server, draw)
                return
            data = server.initial()
        elif int(version) < server.oldest:
            if draw is not None and draw(st.booleans()):
                self.cursor.restart()
                return
            data = line("ERROR", {"kind": "Status", "code": EXPIRED, "message": "too old"})
        else:
            data = server.since(int(version)) + bookmark(server.version)
        self.receive(data, draw)

    def list(self, server: Server, draw: st.DrawFn) -> None:
        items = [obj(each, 1, value) for each, value in sorted(server.state.items())]
        middle = draw(st.integers(0, len(items)))
        self.cursor.add_page(items[:middle])
        if draw(st.booleans()):
            self.cursor.add_page(items[middle:])
            self.apply(self.cursor.finish_list(str(server.version)))

    def receive(self, data: bytes, draw: st.DrawFn | None) -> None:
        whole = draw is None or draw(st.booleans())
        if draw is not None and not whole:
            data = data[: draw(st.integers(0, len(data)))]
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6))) if draw is not None else []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            for event in self.cursor.feed(data[start:end]):
                self.apply(event)
        if not whole:
            self.cursor.count_broken_stream()

    def apply(self, event: Upserted[Pair] | Deleted[Pair] | Listed[Pair] | WatchError) -> None:
        match event:
            case Upserted((which, value)):
                self.store[which] = value
            case Deleted((which, _)):
                self.store.pop(which, None)
            case Listed(pairs):
                self.store = dict(pairs)


NAMES = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Server, Client]:
    server, client = Server(), Client()
    for step in draw(st.lists(st.sampled_from(["change", "delete", "compact", "connect"]), max_size=25)):
        match step:
            case "change":
                server.change(draw(NAMES), draw(st.integers(0, 9)))
            case "delete":
                server.change(draw(NAMES), None)
            case "compact":
                server.oldest = server.version
            case _:
                client.connect(server, draw)
    return server, client


@settings(max_examples=3 * settings().max_examples)
@given(histories())
def test_for_every_split_and_interleaving_the_store_equals_the_server(history: tuple[Server, Client]) -> None:
    server, client = history
    # The first connection may only get an error that the position expired, the second one the full list.
    client.connect(server, None)
    client.connect(server, None)
    assert client.store == server.state
