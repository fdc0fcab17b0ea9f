"""The disclosure check on whatever JSON can say."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from medperf_client.disclosure.documents import REDACTED, digest, tree
from medperf_client.disclosure.review import Decision, review
from medperf_client.disclosure.rules import Rules, every

WORDS = """
    n cases label_counts support accuracy prevalence min max range sum mean total sub-01 age size
    confusion_matrix per_case dob notes sex n_at_risk overall
"""
KEYS = st.one_of(st.text(max_size=8), st.sampled_from(WORDS.split()))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [0.0, 0.05, 0.95, 1.0, 100.0, 10**400, "", "nan", REDACTED, "1951-07-09", "/a"]
    ),
    st.text(max_size=12),
)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(
        VALUES,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6),
        max_leaves=30,
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(DOCUMENTS)
def test_every_document_is_checked_and_each_finding_is_at_a_key_that_it_has(document: dict) -> None:
    before = json.dumps(document)
    keys = [node.key for node in tree(document).all()]
    assert len(set(keys)) == len(keys)
    assert all(finding.key in keys for finding in every(document, Rules()))
    assert json.dumps(document) == before


@settings(max_examples=150)
@given(DOCUMENTS)
def test_leaving_out_what_is_found_comes_to_an_end_with_nothing_found(document: dict) -> None:
    decisions: tuple[Decision, ...] = ()
    for _ in range(100):
        reviewed = review(document, Rules(), decisions)
        assert reviewed.record()["digest"] == digest(reviewed.document)
        if not reviewed.open:
            return
        new = {one.key for one in reviewed.open} - {one.key for one in decisions}
        assert new, reviewed.open
        decisions += tuple(Decision(key, "", "") for key in new)
    raise AssertionError("there is no end")
