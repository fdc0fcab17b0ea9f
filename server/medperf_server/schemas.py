"""The wire format: validation, serialisation and OpenAPI out of one place."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from medperf_server.config import DEFAULT_PAGE_SIZE, MAX_JSON_BYTES, MAX_PAGE_SIZE, MAX_UID
from medperf_server.models import APPROVED, DEVELOPMENT, OPERATION, PENDING, REJECTED
from medperf_server.names import check_name

# The end of a string for Python and for ECMAScript, whose patterns OpenAPI has.
END = r"(?![\s\S])"
SHOWN = validate.Regexp(rf"^[^\x00-\x1f\x7f-\x9f]*{END}")
NAME = [validate.Length(1, 128), SHOWN]
WORD = [validate.Length(1, 128), validate.Regexp(rf"^[!-~]+{END}")]
DIGEST = validate.Regexp(rf"^[0-9a-f]{{64}}{END}")
Status = validate.OneOf([PENDING, APPROVED, REJECTED])
State = validate.OneOf([DEVELOPMENT, OPERATION])


def _email() -> fields.Email:
    return fields.Email(validate=[validate.Length(max=254), _printed_ascii])


def _printed_ascii(address: str) -> None:
    """Raise `ValidationError` for what only the pattern of addresses takes: the Kelvin sign, which
    looks like a letter of ASCII, and between quotes what steers a terminal."""
    if not re.fullmatch("[!-~]+", address):
        raise ValidationError("An address is of ASCII's printed characters, without spaces")


def _text(**options: Any) -> fields.String:
    # Nothing that steers a terminal; lines and tabs are fine.
    form = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*{END}"
    return fields.String(validate=[validate.Length(max=20000), validate.Regexp(form)], **options)


def _name(longest: int = 128, shortest: int = 1, **options: Any) -> fields.String:
    length = validate.Length(shortest, longest)
    return fields.String(validate=[length, SHOWN, check_name], **options)


def _url(shortest: int = 0, **options: Any) -> fields.String:
    # Also MedPerf's other words for where something is, such as `synapse:syn123`.
    form = validate.Regexp(rf"^[^\x00-\x20\x7f-\xa0]*{END}")
    length = validate.Length(shortest, 2048)
    return fields.String(validate=[length, form, _readable], **options)


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


def _hash(shortest: int = 0, **options: Any) -> fields.String:
    form = rf"^[A-Za-z0-9:._-]{{{shortest},128}}{END}"
    return fields.String(validate=validate.Regexp(form), **options)


def json_bytes(value: Any) -> int:
    """How much a value is as compact JSON."""
    return len(json.dumps(value, separators=(",", ":")))


def _of_bounded_size(value: dict[str, Any]) -> None:
    size = json_bytes(value)
    if size > MAX_JSON_BYTES:
        raise ValidationError(f"{size} bytes as compact JSON; at most {MAX_JSON_BYTES} are taken")


def _object(**options: Any) -> fields.Dict:
    return fields.Dict(keys=fields.String(), validate=_of_bounded_size, **options)


def _uid(**options: Any) -> fields.Integer:
    options.setdefault("strict", True)
    return fields.Integer(validate=validate.Range(1, MAX_UID), **options)


class Truth(fields.Boolean):
    """JSON's true and false, and nothing that looks like them."""

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def _truth_in_query() -> fields.Boolean:
    return fields.Boolean(truthy={"true", "True"}, falsy={"false", "False"})


class EntitySchema(Schema):
    """What every entity carries and only the registry sets."""

    id = fields.Integer(dump_only=True)
    owner = fields.Integer(dump_only=True)
    created_at = fields.DateTime(format="iso", dump_only=True)
    modified_at = fields.DateTime(format="iso", dump_only=True)

    class Meta:
        # Clients of MedPerf send whole entities back; what they may not set is left out.
        unknown = "exclude"


class ContainerSchema(EntitySchema):
    """A container."""

    name = _name(required=True)
    git_mlcube_url = _url(required=True, shortest=1)
    mlcube_hash = _hash(required=True, shortest=1)
    git_parameters_url = _url()
    parameters_hash = _hash()
    image_tarball_url = _url()
    image_tarball_hash = _hash()
    image_hash = _hash()
    additional_files_tarball_url = _url()
    additional_files_tarball_hash = _hash()
    state = fields.String(validate=State)
    is_valid = Truth()
    metadata = _object(attribute="metadata_")
    user_metadata = _object()


class BenchmarkSchema(EntitySchema):
    """A benchmark."""

    name = _name(required=True)
    description = _text()
    docs_url = _url()
    demo_dataset_tarball_url = _url()
    demo_dataset_tarball_hash = _hash(required=True, shortest=1)
    demo_dataset_generated_uid = _hash()
    data_preparation_mlcube = _uid(required=True)
    reference_model_mlcube = _uid(required=True)
    data_evaluator_mlcube = _uid(required=True)
    metadata = _object(attribute="metadata_")
    state = fields.String(validate=State)
    is_valid = Truth()
    is_active = Truth()
    is_private = Truth()
    approval_status = fields.String(validate=Status)
    user_metadata = _object()
    approved_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)
    approved_digest = fields.String(dump_only=True)


class SeenBenchmarkSchema(BenchmarkSchema):
    """Changes to a benchmark that somebody has looked at; see `approval.content_digest`."""

    seen = fields.String(load_only=True, validate=DIGEST)


class AssociationSchema(EntitySchema):
    """A model's association with a benchmark."""

    class Meta(EntitySchema.Meta):
        exclude = ("owner",)

    model_mlcube = _uid(required=True)
    benchmark = _uid(required=True)
    initiated_by = fields.Integer(dump_only=True)
    metadata = _object(attribute="metadata_")
    approval_status = fields.String(validate=Status)
    approved_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)
    priority = fields.Integer(dump_only=True)
    reason = fields.String(dump_only=True)


class AssociationUpdateSchema(Schema):
    """What of an association can change."""

    class Meta:
        unknown = "exclude"

    # The association that is meant, where not whichever is the newest.
    id = _uid(load_only=True)
    approval_status = fields.String(validate=Status)
    priority = fields.Integer(strict=True, validate=validate.Range(-MAX_UID, MAX_UID))
    reason = _text()


class BenchmarkModelSchema(Schema):
    """A model in a benchmark, as the committee's list shows it."""

    model_mlcube = fields.Integer()
    approval_status = fields.String()
    created_at = fields.DateTime(format="iso")


class UserSchema(Schema):
    """A member."""

    class Meta:
        unknown = "exclude"

    id = fields.Integer(dump_only=True)
    username = _name()
    email = _email()
    first_name = _name(longest=150, shortest=0)
    last_name = _name(longest=150, shortest=0)


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


class InviteSchema(Schema):
    """Whom to show a private benchmark: one of the two."""

    class Meta:
        unknown = "exclude"

    email = _email()
    user = _uid()

    @validates_schema
    def _one(self, values: dict[str, Any], **_: Any) -> None:
        if len(values) != 1:
            raise ValidationError("give either email or user")


class MemberSchema(Schema):
    """A member to whom a benchmark is shown while it is private."""

    user = fields.Integer(attribute="user_id")
    email = fields.String(attribute="member.email")
    created_at = fields.DateTime(format="iso")


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


class PageQuery(Schema):
    """Query parameters of a list."""

    limit = fields.Integer(
        load_default=DEFAULT_PAGE_SIZE, validate=validate.Range(1, MAX_PAGE_SIZE)
    )
    offset = fields.Integer(load_default=0, validate=validate.Range(0, MAX_UID))

    class Meta:
        unknown = "exclude"


class ContainerQuery(PageQuery):
    """Filters of a list of containers."""

    name = fields.String(validate=NAME)
    owner = _uid(strict=False)
    state = fields.String(validate=State)
    is_valid = _truth_in_query()


class BenchmarkQuery(ContainerQuery):
    """Filters of a list of benchmarks."""

    is_active = _truth_in_query()
    approval_status = fields.String(validate=Status)


class AuditQuery(PageQuery):
    """Filters of the audit log."""

    user_id = _uid(strict=False)
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
    more = _truth_in_query()
    log = fields.String()
    reset = fields.Boolean()


class VersionSchema(Schema):
    """The API's version."""

    version = fields.String()


class ErrorSchema(Schema):
    """Why a request was refused; for a 400, messages by field instead."""

    detail = fields.String()
