from connector_store.domain.status.serving import not_bound, not_named, not_watched


def test_each_says_what_to_do_and_whether_what_runs_is_ended() -> None:
    named, bound = not_named("team-c"), not_bound("team-c")
    assert named.reason == bound.reason == "NamespaceNotServed"
    assert "add it to namespaces in ConfigMap connectors-config" in named.message
    assert "bind the roles of deploy/components/namespaced there" in bound.message
    assert all('"team-c"' in each.message and each.cut for each in (named, bound))
    away, refused = (not_watched("Secret", 600, refused=each) for each in (False, True))
    assert (away.reason, away.cut, refused.cut) == ("NotWatched", False, True)
    assert "kind Secret is more than 600 s old" in away.message
