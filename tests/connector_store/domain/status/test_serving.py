from connector_store.domain.status.serving import namespace_not_configured, namespace_not_readable, not_watched


def test_each_reason_says_how_to_fix_it_and_whether_connections_are_closed() -> None:
    not_configured, not_readable = namespace_not_configured("team-c"), namespace_not_readable("team-c")
    assert not_configured.reason == not_readable.reason == "NamespaceNotServed"
    assert "add it to namespaces in ConfigMap connectors-config" in not_configured.message
    assert "bind the roles of deploy/components/namespaced there" in not_readable.message
    assert all('"team-c"' in reason.message and reason.closes_connections for reason in (not_configured, not_readable))
    unavailable, refused = (not_watched("Secret", 600, refused=value) for value in (False, True))
    assert (unavailable.reason, unavailable.closes_connections, refused.closes_connections) == (
        "NotWatched",
        False,
        True,
    )
    assert "kind Secret is more than 600 s old" in unavailable.message
