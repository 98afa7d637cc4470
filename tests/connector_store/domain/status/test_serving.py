from connector_store.domain.status.serving import namespace_not_configured, namespace_not_readable, not_watched


def test_each_says_what_to_do_and_whether_what_runs_is_ended() -> None:
    named, bound = namespace_not_configured("team-c"), namespace_not_readable("team-c")
    assert named.reason == bound.reason == "NamespaceNotServed"
    assert "add it to namespaces in ConfigMap connectors-config" in named.message
    assert "bind the roles of deploy/components/namespaced there" in bound.message
    assert all('"team-c"' in each.message and each.closes_connections for each in (named, bound))
    away, refused = (not_watched("Secret", 600, refused=each) for each in (False, True))
    assert (away.reason, away.closes_connections, refused.closes_connections) == ("NotWatched", False, True)
    assert "kind Secret is more than 600 s old" in away.message
