from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.request_info import parse_request
from connector_store.domain.decision.redaction import (
    MAX_COMMAND,
    MAX_PATH,
    command_parameters,
    command_words,
    redact_target,
    redact_tokens,
)

NONE: frozenset[str] = frozenset()
EXEC = frozenset({"command"})
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
OPAQUE = "s3cr3t-t0ken"


@pytest.mark.parametrize(
    ("target", "commands", "expected"),
    [
        pytest.param("/api", EXEC, "/api", id="no query"),
        pytest.param("/api?", EXEC, "/api?", id="an empty query"),
        pytest.param("/api?watch=1&pretty", NONE, "/api?watch&pretty", id="names of the query only"),
        pytest.param("/x?command=ls", NONE, "/x?command", id="a command is a value too"),
        pytest.param("/x?tty=1&command=ls&stdin=1&command=-l", EXEC, "/x?command=ls&command=-l&tty&stdin",
                     id="the words of a command come first"),
        pytest.param("/x?comm%61nd=evil", EXEC, "/x?command=evil", id="a name is decoded as the API server decodes it"),
        pytest.param("/x?%63%6f%6d%6d%61%6e%64=evil", EXEC, "/x?command=evil", id="a name that is escaped as a whole"),
        pytest.param("/x?command=a%20b+c", EXEC, "/x?command=a%20b+c", id="a value stays unchanged"),
        pytest.param("/x?com+mand=ls", EXEC, "/x?...", id="a plus is a space"),
        pytest.param("/x?Command=ls", EXEC, "/x?...", id="names are case-sensitive"),
        pytest.param("/x?command=ls;command=evil", EXEC, "/x?...", id="Go ignores pairs with a semicolon"),
        pytest.param("/x?command=%zz&command=ls", EXEC, "/x?command=ls&...", id="Go ignores values with a bad escape"),
        pytest.param("/x?comman%6=a", EXEC, "/x?...", id="Go ignores names with a bad escape"),
        pytest.param("/x?&&tty&&", EXEC, "/x?tty", id="empty pairs are ignored"),
        pytest.param("/x?a=1&b=2&tty", EXEC, "/x?...&tty", id="unknown names are omitted once"),
        pytest.param(f"/x?{OPAQUE}", EXEC, "/x?...", id="a token in place of a query"),
        pytest.param(f"/x?{OPAQUE}=", EXEC, "/x?...", id="a token in place of a name"),
        pytest.param(f"/x?access_token={OPAQUE}", EXEC, "/x?...", id="a token as a parameter"),
        pytest.param(f"/{TOKEN}/x", EXEC, "/.../x", id="a token in a path"),
        pytest.param(f"http://team-a%2Fk8s:{OPAQUE}@h/x", EXEC, "http://h/x", id="an absolute form with a login"),
        pytest.param(f"http://team-a/k8s:{OPAQUE}@h/x", EXEC, "http://h/x", id="a login with a slash"),
        pytest.param(f"http://a:{OPAQUE}?b@h/x?watch", EXEC, "http://h/x?watch", id="a login with a question mark"),
        pytest.param(f"team-a%2Fk8s:{OPAQUE}@h:443", EXEC, "h:443", id="an authority with a login"),
        pytest.param(f"//a:{OPAQUE}@h/x", EXEC, "//h/x", id="two slashes and a login"),
        pytest.param("h:443", EXEC, "h:443", id="an authority"),
        pytest.param("http://h/x?watch=1", EXEC, "http://h/x?watch", id="an absolute form"),
        pytest.param("/a@b", EXEC, "/a@b", id="an at sign in a path"),
        pytest.param("/" + "a" * 5000, EXEC, "/" + "a" * (MAX_PATH - 4) + "...", id="a long path is truncated"),
        pytest.param("/x?" + "tty&" * 5000, EXEC, "/x?" + ("tty&" * 600)[: MAX_PATH - 3] + "...",
                     id="a long query is truncated"),
        pytest.param("/x?" + "tty&" * 5000 + "command=evil", EXEC,
                     "/x?command=evil&" + ("tty&" * 600)[: MAX_PATH - 3] + "...", id="padding hides no command"),
        pytest.param("/x?" + "command=true&" * 200 + "command=evil", EXEC,
                     "/x?" + "command=true&" * 200 + "command=evil", id="repetition hides no command"),
        pytest.param("/x?command=" + "a" * 20000, EXEC, "/x?command=" + "a" * (MAX_COMMAND - 11) + "...",
                     id="a very long command is truncated"),
    ],
)  # fmt: skip
def test_redacted_targets(target: str, commands: frozenset[str], expected: str) -> None:
    assert redact_target(target, commands) == expected


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/api/v1/namespaces/a/pods/b/exec", {"command"}),
        ("/api/v1/nodes/n/proxy/exec/a/b/c", {"command", "cmd"}),
        ("/api/v1/nodes/n/proxy/run/a/b/c", {"command", "cmd"}),
        ("/api/v1/namespaces/a/services/b/proxy/exec", set()),
        ("/api/v1/namespaces/a/pods/b/log", set()),
        ("/version", set()),
    ],
)
def test_parameters_that_contain_commands(target: str, names: set[str]) -> None:
    assert command_parameters(parse_request("POST", target, "")) == names


def test_without_a_request_there_is_no_command() -> None:
    assert command_parameters(None) == NONE


@pytest.mark.parametrize("text", ["kubectl/v1.37 (linux)", "eyJ", ""])
def test_texts_without_tokens_stay_unchanged(text: str) -> None:
    assert redact_tokens(text) == text


@given(user=st.text(st.characters(codec="ascii")), form=st.sampled_from(["{}@h:1", "http://{}@h/", "//{}@h/"]))
def test_no_userinfo_is_logged(user: str, form: str) -> None:
    logged = redact_target(form.format(f"a{user}:{OPAQUE}"), EXEC)
    assert OPAQUE not in logged


@given(st.text(), st.integers(0, 30))
def test_the_command_of_every_exec_is_logged(padding: str, place: int) -> None:
    pairs = [f"tty={quote(padding, safe='')}"] * 30
    pairs.insert(place, "comma%6ed=evil")
    assert redact_target("/x?" + "&".join(pairs), EXEC).startswith("/x?command=evil&")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param("/api/v1/namespaces/a/pods/b/exec?command=sh&command=-c&command=ls+%2Ftmp&tty=1",
                     ("sh", "-c", "ls /tmp"), id="an exec"),
        pytest.param("/api/v1/namespaces/a/pods/b/exec", (), id="an exec without a command"),
        pytest.param("/api/v1/namespaces/a/pods/b/attach?command=ls", (), id="another subresource"),
        pytest.param("/api/v1/nodes/n/proxy/run/a/b/c?cmd=ls", ("ls",), id="kubelet's run"),
    ],
)  # fmt: skip
def test_the_words_of_a_command(target: str, words: tuple[str, ...]) -> None:
    assert command_words(target, parse_request("GET", target, "")) == words
