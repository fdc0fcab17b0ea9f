"""Names that people can tell apart, and that steer no terminal.

A name keeps to PRECIS's profile for nicknames (RFC 8266): no control, no character that is not
seen, no white space around it or twice within, no other form of a character that there is. And no
letter of one script stands among those of another that looks like it (Unicode's technical standard
39): `pаypal` with a Cyrillic `а` is refused.
"""

from functools import cache
from typing import Any

from marshmallow import ValidationError

# None of their letters looks like one of Latin, beside which they stand in honest names.
APART = {"HAN", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"}
# Of no script: digits, signs, accents.
SHARED = {"COMMON", "INHERITED"}


@cache
def _profile() -> Any:
    # Imported late: `medperf-server --help` does not pay for it.
    from precis_i18n import get_profile

    return get_profile("NicknameCasePreserved")


def check_name(name: str) -> None:
    """Raise `ValidationError` for what is no name; that it is empty is for others to refuse."""
    if not name:
        return
    try:
        as_it_should_be = _profile().enforce(name)
    except UnicodeEncodeError as error:
        raise ValidationError(
            f"a name has no such character as U+{ord(error.object[error.start]):04X}"
        ) from error
    if as_it_should_be != name:
        raise ValidationError(f"write it as {as_it_should_be!r}")
    if not name.isascii():
        _refuse_look_alikes(name)


def _refuse_look_alikes(name: str) -> None:
    from confusable_homoglyphs import categories, confusables

    scripts = {char: categories.alias(char) for char in name}
    letters = [char for char in name if scripts[char] not in APART | SHARED]
    if len({scripts[char] for char in letters}) < 2:
        return
    found = confusables.is_confusable("".join(letters), preferred_aliases=["latin"])
    if found:
        raise ValidationError(f"{found[0]['character']!r} looks like a letter of another script")
