"""What somebody writes who means harm: words, values, JSON, YAML, as hypothesis finds them."""

import json
from functools import cache
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SCRIPT = "<script>alert('x')</script>"
KNOWN_WORDS = [
    "",
    " ",
    "\x00",
    "a\x07b\x08c",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31mred\x9d0;title\x9c",
    "\u202egnp.exe\u202c",
    "a\u200bb\u2060c\ufeffd",
    "\u2028\u2029\x85",
    "line\nline\r\nline\ttab",
    "\ud800",
    "\udfff half",
    "\uff48\uff54\uff54\uff50://a\u2100b/",
    "http://[::1",
    "http://[",
    "http://h:99999999/",
    "http://h:port/",
    "https://\u202e/",
    "../../etc/passwd",
    "{q1}",
    "%s%n{0.__class__}",
    "[bold]markup[/bold]",
    SCRIPT,
    "'\"><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "9" * 5000,
    "0x" + "f" * 4000,
    "1e999999999",
    "x" * 100_000,
    "\U000e0001\U000f0000",
]
NUMBERS = [0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**63, 10**30, 10**4000, 1e308, -0.0, 5e-324]
KNOWN_YAML = [
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n"
    "c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n"
    "e: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n",
    "a: &a [*a]",
    "a: 1\na: 2",
    "a: !!python/object/apply:os.system [id]",
    "a: !!timestamp x",
    "a: 0001-01-01T00:00:00+23:59\nb: 9999-12-31T23:59:59-23:59",
    "a: 0x" + "f" * 4000,
    "a: .nan\nb: .inf\nc: -.inf",
    "[" * 5000,
    "{" * 5000,
    "? [a]\n: b",
    "1: a\n1.0: b\ntrue: c\nnull: d",
    "<<: {a: 1}\na: 2",
    '"\\ud800": "\\udfff\\x9b"',
    "\x00",
    "%YAML 9.9\n---\na: b",
    "--- a\n--- b",
    "results: !!binary aGVsbG8=",
    "a: !!set {b, c}",
    "a: !!omap [b: c]",
    "12:30:45: 190:20:30",
]

SECONDS = 60
# How many commands or pages show each case.
SHOWN = 4
HASTE = settings(database=None, suppress_health_check=list(HealthCheck))


@cache
def words(*, stored: bool = False) -> st.SearchStrategy[str]:
    """Text; `stored` is what a database can hold: no NUL, no half of a surrogate pair."""
    known = [word for word in KNOWN_WORDS if not stored or storable(word)]
    letters = st.characters(
        exclude_categories=["Cs"] if stored else [], exclude_characters="\0" if stored else ""
    )
    return st.one_of(st.sampled_from(known), st.text(letters, max_size=30))


def storable(word: str) -> bool:
    """Whether a database can hold it."""
    return "\0" not in word and not any("\ud800" <= char <= "\udfff" for char in word)


@cache
def values(*, stored: bool = False) -> st.SearchStrategy[Any]:
    """Anything that JSON says, and Python's decoder takes."""
    # In JSON every half of a surrogate pair is ASCII, so a database can hold it.
    texts = words()
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([one for one in NUMBERS if not stored or abs(one) < 2**63]),
        st.floats(allow_nan=not stored, allow_infinity=not stored),
        texts,
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=6,
    )


@cache
def mappings(*, stored: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects."""
    return st.dictionaries(words(), values(stored=stored), max_size=3)


@cache
def yamls() -> st.SearchStrategy[str]:
    """YAML, or nearly."""
    written = st.one_of(mappings(), values()).map(lambda value: json.dumps(value))
    return st.one_of(st.sampled_from(KNOWN_YAML), written, words())


def several(shows: list[str]) -> st.SearchStrategy[list[str]]:
    """What shows a case, one after the other, on what the one before left."""
    return st.lists(st.sampled_from(shows), min_size=SHOWN, max_size=SHOWN, unique=True)
