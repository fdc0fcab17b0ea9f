"""The wire format: validation, serialisation and OpenAPI out of one place.

Here are the fields, what all entities have in common, and what is of the registry itself; a kind's
form stands in its folder.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import g, has_request_context
from marshmallow import Schema, ValidationError, fields, pre_load, validate

from medperf_server.base import APPROVED, DEVELOPMENT, OPERATION, PENDING, REJECTED, alike
from medperf_server.config import DEFAULT_PAGE_SIZE, MAX_JSON_BYTES, MAX_PAGE_SIZE, MAX_UID
from medperf_server.links import FileUrl
from medperf_server.names import check_name
from medperf_server.readable import Short

# The end of a string for Python and for ECMAScript, whose patterns OpenAPI has.
END = r"(?![\s\S])"
SHOWN = validate.Regexp(rf"^[^\x00-\x1f\x7f-\x9f]*{END}")
NAME = [validate.Length(1, 128), SHOWN]
WORD = [validate.Length(1, 128), validate.Regexp(rf"^[!-~]+{END}")]
DIGEST = validate.Regexp(rf"^[0-9a-f]{{64}}{END}")
# What of a value a field looks at besides its kind's form.
Check = Callable[[str], Any]
Status = validate.OneOf([PENDING, APPROVED, REJECTED])
State = validate.OneOf([DEVELOPMENT, OPERATION])


def email_field() -> fields.Email:
    """An e-mail address."""
    return fields.Email(validate=[validate.Length(max=254), _printed_ascii])


def _printed_ascii(address: str) -> None:
    """Raise `ValidationError` for what only the pattern of addresses takes: the Kelvin sign, which
    looks like a letter of ASCII, and between quotes what steers a terminal."""
    if not re.fullmatch("[!-~]+", address):
        raise ValidationError("An address is of ASCII's printed characters, without spaces")


class Length(validate.Length):
    """A length, unless one of `also` has a lower bound: then that one alone says what is wrong."""

    def __init__(self, also: Iterable[Check], least: int | None, most: int) -> None:
        super().__init__(least, most)
        self._also = [one for one in also if isinstance(one, Short)]

    def __call__(self, value: Any) -> Any:
        """The value; raises `ValidationError`."""
        bounds = [one.max for one in self._also if one.max is not None]
        return value if bounds and len(value) > min(bounds) else super().__call__(value)


def text_field(*also: Check, **options: Any) -> fields.String:
    """Free text, of lines."""
    # Nothing that steers a terminal; lines and tabs are fine.
    form = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*{END}"
    length = Length(also, None, 20000)
    return fields.String(validate=[length, validate.Regexp(form), *also], **options)


def line_field(*also: Check, **options: Any) -> fields.String:
    """Free text, of one line."""
    return fields.String(validate=[Length(also, None, 20000), SHOWN, *also], **options)


def name_field(
    *also: Check, longest: int = 128, shortest: int = 1, **options: Any
) -> fields.String:
    """A name that people tell apart from others (see `names`)."""
    length = Length(also, shortest, longest)
    return fields.String(validate=[length, SHOWN, *also, check_name], **options)


def url_field(
    *also: Check,
    shortest: int = 0,
    longest: int = 2048,
    form: type[fields.String] = fields.String,
    **options: Any,
) -> fields.String:
    """Where something is."""
    # Also MedPerf's other words for where something is, such as `synapse:syn123`.
    shown = validate.Regexp(rf"^[^\x00-\x20\x7f-\xa0]*{END}")
    length = validate.Length(shortest, longest)
    return form(validate=[length, shown, _readable, *also], **options)


def file_field(shortest: int = 0, **options: Any) -> fields.String:
    """Where a file is that clients fetch."""
    return url_field(shortest=shortest, form=FileUrl, **options)


def _readable(url: str) -> None:
    """Raise `ValidationError` for what no client can take apart."""
    try:
        # Also what comes after a word such as `direct:`.
        for part in (url, url.partition(":")[2]):
            found = urlsplit(part)
            # Each is read when it is asked for.
            _ = found.hostname, found.port
    except ValueError as error:
        raise ValidationError(f"it is no URL: {error}") from error
    if not url.isprintable():
        raise ValidationError("it is no URL: some of its characters are not seen")


def hash_field(shortest: int = 0, **options: Any) -> fields.String:
    """A digest, in whatever form its kind has."""
    form = rf"^[A-Za-z0-9:._-]{{{shortest},128}}{END}"
    return fields.String(validate=validate.Regexp(form), **options)


def json_bytes(value: Any) -> int:
    """How much a value is as compact JSON."""
    return len(json.dumps(value, separators=(",", ":")))


def _of_bounded_size(value: dict[str, Any]) -> None:
    size = json_bytes(value)
    if size > MAX_JSON_BYTES:
        raise ValidationError(f"{size} bytes as compact JSON; at most {MAX_JSON_BYTES} are taken")


class JsonObject(fields.Dict):
    """A JSON object. `null` is taken for an empty one unless it is refused, and never told: clients
    want objects."""

    def deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        """See marshmallow's `Field`."""
        taken = {} if value is None and self.allow_none else value
        return super().deserialize(taken, *arguments, **options)


def object_field(**options: Any) -> JsonObject:
    """A JSON object of bounded size."""
    options.setdefault("allow_none", True)
    return JsonObject(keys=fields.String(), validate=_of_bounded_size, **options)


def uid_field(**options: Any) -> fields.Integer:
    """The UID of an entity."""
    options.setdefault("strict", True)
    return fields.Integer(validate=validate.Range(1, MAX_UID), **options)


def is_uid(value: Any) -> bool:
    """Whether a value from JSON may be an entity's UID."""
    return type(value) is int and 1 <= value <= MAX_UID


class Truth(fields.Boolean):
    """JSON's true and false, and nothing that looks like them."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def truth_in_query(**options: Any) -> fields.Boolean:
    """True or false as a query writes them."""
    return fields.Boolean(truthy={"true", "True"}, falsy={"false", "False"}, **options)


class EntitySchema(Schema):
    """What every entity carries and only the registry sets."""

    id = fields.Integer(dump_only=True)
    owner = fields.Integer(dump_only=True)
    created_at = fields.DateTime(format="iso", dump_only=True)
    modified_at = fields.DateTime(format="iso", dump_only=True)

    class Meta:
        # Clients of MedPerf send whole entities back; what they may not set is left out.
        unknown = "exclude"

    @pre_load
    def _leave_what_stands(self, body: Any, **_: Any) -> Any:
        """What a change sends back as it is changes nothing, also where it came to be before there
        was a limit that it breaks."""
        stands = g.get("stands") if has_request_context() else None
        if not stands or not isinstance(body, dict):
            return body
        same = (name for name in body.keys() & stands.keys() if alike(body[name], stands[name]))
        return {name: body[name] for name in body.keys() - set(same)}


class PairSchema(EntitySchema):
    """What every request has that brings two entities together, and what was decided of it."""

    initiated_by = fields.Integer(dump_only=True)
    metadata = object_field(attribute="metadata_")
    approval_status = fields.String(validate=Status)
    approved_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)
    reason = fields.String(dump_only=True)

    class Meta(EntitySchema.Meta):
        exclude = ("owner",)


class DecisionSchema(Schema):
    """The decision on a request."""

    class Meta:
        unknown = "exclude"

    # The request that is meant, where not whichever is the newest.
    id = uid_field(load_only=True)
    approval_status = fields.String(validate=Status)
    reason = text_field()


class AssetSchema(Schema):
    """A file that the registry keeps."""

    sha256 = fields.String()
    size_bytes = fields.Integer()
    created_at = fields.DateTime(format="iso")


class UploadSchema(Schema):
    """A file that is here already (`url`), or on its way in (`upload`)."""

    sha256 = fields.String()
    size_bytes = fields.Integer()
    url = fields.String()
    upload = fields.String()
    offset_bytes = fields.Integer()


class AuditSchema(Schema):
    """One change: who made it, when, from where, and the values before and after."""

    id = fields.Integer()
    at = fields.DateTime(format="iso")
    user_id = fields.Integer(allow_none=True)
    actor = fields.String()
    address = fields.String()
    request_id = fields.String()
    action = fields.String()
    entity_type = fields.String()
    entity_id = fields.String()
    before = fields.Dict(keys=fields.String(), allow_none=True)
    after = fields.Dict(keys=fields.String(), allow_none=True)


class Count(fields.Raw):
    """A number of a list's query, as MedPerf's server reads it: what is none counts as not said,
    and what is too large as the largest."""

    def __init__(self, usual: int, least: int, most: int) -> None:
        told = f"A number from {least} to {most}; anything else counts as {usual}"
        super().__init__(load_default=usual, metadata={"description": told})
        self._usual, self._least, self._most = usual, least, most

    def deserialize(self, value: Any, *arguments: Any, **options: Any) -> int:
        """See marshmallow's `Field`."""
        text = str(value).strip()
        if not re.fullmatch("[+]?[0-9]{1,1000}", text) or int(text) < self._least:
            return self._usual
        return min(int(text), self._most)


class PageQuery(Schema):
    """Query parameters of a list."""

    limit = Count(DEFAULT_PAGE_SIZE, least=1, most=MAX_PAGE_SIZE)
    offset = Count(0, least=0, most=MAX_UID)

    class Meta:
        unknown = "exclude"


class EntityQuery(PageQuery):
    """Filters of a list of entities."""

    name = fields.String(validate=NAME)
    owner = uid_field(strict=False)
    state = fields.String(validate=State)
    is_valid = truth_in_query()


class AuditQuery(PageQuery):
    """Filters of the audit log."""

    user_id = uid_field(strict=False)
    action = fields.String(validate=validate.OneOf(["created", "updated", "deleted"]))
    entity_type = fields.String(validate=WORD)
    entity_id = fields.String(validate=WORD)


class ChangesQuery(Schema):
    """Query parameters of the change log."""

    since = fields.Integer(load_default=0, validate=validate.Range(0, 2**62))
    log = fields.String(validate=DIGEST)
    limit = fields.Integer(load_default=500, validate=validate.Range(1, MAX_PAGE_SIZE))

    class Meta:
        unknown = "exclude"


class ChangeSchema(Schema):
    """One change; `entity` is its state now, null once deleted."""

    cursor = fields.Integer()
    type = fields.String()
    id = fields.Integer()
    action = fields.String()
    entity = fields.Dict(allow_none=True)


class ChangesSchema(Schema):
    """A page of the change log, and what to ask with next; or that all is to be read again."""

    changes = fields.List(fields.Nested(ChangeSchema))
    next = fields.Integer()
    more = truth_in_query()
    log = fields.String()
    reset = fields.Boolean()


class VersionSchema(Schema):
    """The API's version."""

    version = fields.String()


class ErrorSchema(Schema):
    """Why a request was refused; for a 400, messages by field instead."""

    detail = fields.String()
