"""Words: free text, paths, identifiers, dates of persons; in values, and in the names of keys."""

import re
from collections.abc import Iterator

from medperf_client.disclosure.documents import REDACTED, Node
from medperf_client.disclosure.finding import Finding
from medperf_client.disclosure.vocabulary import (
    FREE_TEXT,
    IDENTIFYING,
    NAMING,
    NAMING_PERSONS,
    OF_PERSONS,
    OF_RUNS,
    PERSONS,
    UNITS,
    has,
    words,
)

WHY = {
    "text": "free text may tell of persons",
    "path": "a path or file name may name persons or cases, and tells of the site's machines",
    "identifier": "it looks like what identifies a person, an examination or a case",
    "date": "it looks like a date in somebody's life",
}
FILES = (
    "nii|nii.gz|dcm|dicom|ima|mha|mhd|nrrd|mgz|png|jpe?g|tiff?|bmp|svs|ndpi|mrxs|csv|tsv|xlsx?|npy|npz|"
    "h5|hdf5|parquet|edf|txt|pdf|docx?"
).replace(".", r"\.")
PATH = re.compile(
    rf"(~|\.\.?)?/\S.*|[A-Za-z]:[\\/].*|\\\\\S.*|file:.*|(?!https?://)\S*[^\s./]\.({FILES})",
    re.I | re.S,
)
E_MAIL = re.compile(r"\S+@\S+\.\w+")
DICOM_UID = re.compile(r"[0-2](\.\d+){5,}")
CASE_NAME = re.compile(
    r"(sub|subject|subj|patient|pat|pt|case|mrn|acc|study|series|scan|person)[-_ ]?\d{2,}\w*"
    r"|[A-Za-z]{1,3}\d{5,}"  # P6370279
    r"|[A-Za-z]{2,}(-[A-Za-z0-9]+)+-\d{3,}"  # TCGA-DU-7010, BraTS-GLI-00012-000
    r"|\d{6,}",
    re.I,
)
DAY = re.compile(r"(?<!\d)((19|20)\d\d-\d\d?-\d\d?|\d\d?[./]\d\d?[./](19|20)\d\d)(?!\d)")
BARE_DAY = re.compile(r"(19|20)\d\d[01]\d[0-3]\d")
YEARS = range(1880, 2101)
# Of one word, and of what is looked at for more than being long.
MOST_CHARACTERS, MOST_LOOKED_AT = 60, 1_000
DIGEST = re.compile(r"(sha\d+:)?[0-9a-fA-F]{32,128}")


def check(root: Node, min_words: int) -> Iterator[Finding]:
    """Findings on texts and on the names of keys; `min_words` words are free text."""
    for node in root.all():
        if node.is_mapping:
            yield from _names(node, min_words)
        if node.value == REDACTED:
            continue
        if node.is_list:
            yield from _items(node, min_words)
        elif not node.is_mapping and not (node.above is not None and node.above.is_list):
            rule = _rule(node, min_words)
            if rule:
                yield Finding(node.key, rule, WHY[rule])


def _items(node: Node, min_words: int) -> Iterator[Finding]:
    """What the items of a list say; of several of one sort the list is told."""
    by_rule: dict[str, list[Node]] = {}
    for one in node.below:
        if not (one.is_mapping or one.is_list or one.value == REDACTED):
            rule = _rule(one, min_words)
            if rule:
                by_rule.setdefault(rule, []).append(one)
    for rule, found in by_rule.items():
        if len(found) > 1 and node.above is not None:
            yield Finding(node.key, rule, f"{WHY[rule]}: so do {len(found)} of its items")
        else:
            yield from (Finding(one.key, rule, WHY[rule]) for one in found)


def _names(node: Node, min_words: int) -> Iterator[Finding]:
    """What the keys of a mapping are themselves: cases by name, files, days."""
    by_rule: dict[str, list[Node]] = {}
    for one in node.below:
        # What is written together is one word: `mean_false_positives_per_image` is no text.
        name = str(one.name)
        rule = _of_text(name, min_words)
        if rule == "text" and len(name.split()) < min_words and len(name) <= MOST_LOOKED_AT:
            rule = None
        if rule:
            by_rule.setdefault(rule, []).append(one)
    for rule, found in by_rule.items():
        why = f"{WHY[rule]}: so are {len(found)} of its keys"
        if node.above is not None:
            yield Finding(node.key, rule, why)
            continue
        for one in found:
            yield Finding(one.key, rule, f"{WHY[rule]}: the key itself", is_name=True)


def _rule(node: Node, min_words: int) -> str | None:
    """The rule that a value breaks by its key and what it says."""
    if node.value is None or isinstance(node.value, bool):
        return None
    found = words(node.word)
    text = str(node.value)
    if _is_identifying(found):
        return "identifier"
    is_of_run = has(found, OF_RUNS) and not has(found, OF_PERSONS - {"study", "scan"})
    if has(found, OF_PERSONS) and not is_of_run and _is_day(node, found):
        return "date"
    if not isinstance(node.value, str):
        return None
    rule = _of_text(text, min_words)
    if rule == "date" and (is_of_run or (found in (["date"], ["datetime"]) and _is_at_top(node))):
        return None
    if rule is None and has(found, FREE_TEXT) and len(_spoken(text)) > 1:
        return "text"
    return rule


def _of_text(text: str, min_words: int) -> str | None:
    """The rule that a text breaks, whatever its key."""
    text = text.strip()
    if len(text) > MOST_LOOKED_AT:
        return "text"
    if PATH.fullmatch(text):
        return "path"
    if E_MAIL.search(text) or DICOM_UID.fullmatch(text):
        return "identifier"
    if DIGEST.fullmatch(text) and not text.isdigit():
        return None
    if len(_spoken(text)) < min_words and (DAY.search(text) or BARE_DAY.fullmatch(text)):
        return "date"
    if any(_names_case(word) for word in text.split()):
        return "identifier"
    if re.fullmatch(r"https?://[^\s?@]+", text):
        return None
    spoken = _spoken(text)
    if len(spoken) >= min_words or (len(text) > MOST_CHARACTERS and spoken):
        return "text"
    return None


def _names_case(word: str) -> bool:
    """Whether a word is a name as cases have it."""
    return bool(CASE_NAME.fullmatch(word.strip("\"'()[],;:.")))


def _spoken(text: str) -> list[str]:
    """The words of a text that are no numbers."""
    return re.findall(r"[^\W\d_]{2,}", text)


def _is_identifying(found: list[str]) -> bool:
    """Whether a key says that it holds what identifies: `patient_id`, `StudyInstanceUID`, `mrn`."""
    if has(found, IDENTIFYING):
        return True
    owned, owners = found[:-1], PERSONS | UNITS | {"instance", "hospital", "record"}
    return (has(found[-1:], NAMING) and has(owned, owners)) or (
        has(found[-1:], NAMING_PERSONS) and has(owned, PERSONS)
    )


def _is_day(node: Node, found: list[str]) -> bool:
    """Whether a value is a day, or the year of one."""
    if isinstance(node.value, str):
        return bool(DAY.search(node.value) or BARE_DAY.fullmatch(node.value))
    whole = node.whole
    if whole is None:
        return False
    return (whole in YEARS and has(found, frozenset({"year", "date", "dob"}))) or bool(
        BARE_DAY.fullmatch(str(whole))
    )


def _is_at_top(node: Node) -> bool:
    return node.above is not None and node.above.above is None
