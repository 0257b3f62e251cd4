"""Which versions of a process are served."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.inbound.versions import Process, Versions, of_older_version
from gateway.sdk import Point
from tests.inbound.test_deduplication import element

P: Process = ("<default>", "p")
Q: Process = ("<default>", "q")
P_OF_BLUE: Process = ("blue", "p")


def test_the_latest_version_is_served():
    versions = Versions()
    assert versions.import_latest({P: 1, Q: 2}) == {P, Q}
    assert (versions.served(P), versions.served(Q), versions.latest(Q)) == ([1], [2], 2)
    assert versions.import_latest({P: 1, Q: 2}) == set()


def test_the_same_process_of_two_tenants_is_two():
    versions = Versions()
    versions.import_latest({P: 1, P_OF_BLUE: 2})
    assert (versions.served(P), versions.served(P_OF_BLUE)) == ([1], [2])
    assert versions.import_latest({P: 1}) == {P_OF_BLUE}


def test_a_new_version_takes_over():
    versions = Versions()
    versions.import_latest({P: 1, Q: 2})
    assert versions.import_latest({P: 3, Q: 2}) == {P}
    assert versions.served(P) == [3]
    assert versions.deployed(P, 4) == {P}
    assert versions.served(P) == [4]


def test_one_deployed_version_takes_nothing_from_others():
    versions = Versions()
    versions.import_latest({P: 5})
    assert versions.deployed(Q, 6) == {Q}
    assert versions.deployed(P, 4) == set()
    assert versions.deployed(P, 5) == set()
    assert (versions.served(P), versions.served(Q)) == ([5], [6])


def test_older_versions_are_served_while_they_have_open_subscriptions():
    versions = Versions()
    versions.import_latest({P: 3})
    assert versions.import_subscribed({P: {1, 2}}) == {P}
    assert versions.served(P) == [3, 2, 1]
    assert versions.import_subscribed({P: {2}}) == {P}
    assert versions.import_subscribed({}) == {P}
    assert versions.served(P) == [3]


def test_a_latest_version_that_gains_or_loses_subscriptions_is_no_change():
    versions = Versions()
    versions.import_latest({P: 3})
    assert versions.import_subscribed({P: {3}}) == set()
    assert versions.import_subscribed({}) == set()


def test_a_subscribed_version_stays_when_a_new_one_is_deployed_and_is_no_longer_the_latest():
    versions = Versions()
    versions.import_latest({P: 1})
    versions.import_subscribed({P: {1}})
    assert versions.import_latest({P: 2}) == {P}
    assert (versions.served(P), versions.latest(P)) == ([2, 1], 2)


def test_when_the_latest_is_deleted_the_version_before_takes_over():
    versions = Versions()
    versions.import_latest({P: 2})
    assert versions.import_latest({P: 1}) == {P}
    assert (versions.served(P), versions.latest(P)) == ([1], 1)


def test_a_deleted_latest_version_with_instances_gives_up_its_place():
    versions = Versions()
    versions.import_latest({P: 2})
    versions.import_subscribed({P: {2}})
    assert versions.import_latest({P: 1}) == {P}
    assert (versions.served(P), versions.latest(P)) == ([2, 1], 1)


def test_a_process_that_is_gone_but_has_instances_has_no_latest_version():
    versions = Versions()
    versions.import_latest({P: 2})
    versions.import_subscribed({P: {2}})
    assert versions.import_latest({}) == {P}
    assert (versions.served(P), versions.latest(P)) == ([2], None)
    assert versions.import_subscribed({}) == {P}
    assert versions.served(P) == []


def test_subscriptions_may_be_known_before_the_definition():
    versions = Versions()
    assert versions.import_subscribed({P: {1}}) == {P}
    assert versions.latest(P) is None
    assert versions.import_latest({P: 1}) == {P}
    assert versions.latest_keys == {1}


def test_of_an_older_version_only_what_instances_wait_for_is_served():
    kept = [
        element({}, element_id="wait", point=Point.MESSAGE),
        element({}, element_id="aside", point=Point.MESSAGE_START, in_event_sub_process=True),
    ]
    starts = [
        element({}, element_id="none", point=Point.START),
        element({}, element_id="message", point=Point.MESSAGE_START),
        element({}, element_id="timer", point=Point.START, in_event_sub_process=True),
    ]
    assert of_older_version([starts[0], kept[0], starts[1], kept[1], starts[2]]) == tuple(kept)


processes = st.sampled_from([P, Q, P_OF_BLUE])
latest = st.dictionaries(processes, st.integers(1, 4))
subscribed = st.dictionaries(processes, st.frozensets(st.integers(1, 4), max_size=3))


@given(st.lists(st.one_of(latest.map(lambda v: ("latest", v)), subscribed.map(lambda v: ("subscribed", v)))))
def test_whatever_is_imported_what_changed_is_told_and_nothing_else(imports):
    versions = Versions()
    now_latest: dict[Process, int] = {}
    now_subscribed: dict[Process, frozenset[int]] = {}
    for kind, found in imports:
        before = {p: (versions.served(p), versions.latest(p)) for p in (P, Q, P_OF_BLUE)}
        if kind == "latest":
            now_latest, changed = found, versions.import_latest(found)
        else:
            now_subscribed, changed = found, versions.import_subscribed(found)
        after = {p: (versions.served(p), versions.latest(p)) for p in (P, Q, P_OF_BLUE)}
        assert changed == {p for p in before if before[p] != after[p]}
        for p in before:
            keys = set(now_subscribed.get(p, ())) | ({now_latest[p]} if p in now_latest else set())
            assert after[p] == (sorted(keys, reverse=True), now_latest.get(p))
