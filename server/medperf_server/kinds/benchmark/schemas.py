"""A benchmark on the wire, and whom it is shown to."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from medperf_server.kinds.benchmark.table import LETTERS, MEMBERS, NAMES, OWNERS, PARTICIPANTS
from medperf_server.readable import LONGEST_URL, Short, web_address
from medperf_server.schemas import (
    DIGEST,
    EntityQuery,
    EntitySchema,
    State,
    Status,
    Truth,
    email_field,
    file_field,
    hash_field,
    name_field,
    object_field,
    text_field,
    truth_in_query,
    uid_field,
    url_field,
)


class BenchmarkSchema(EntitySchema):
    """A benchmark."""

    name = name_field(Short(), required=True)
    description = text_field(Short())
    docs_url = url_field(web_address, longest=LONGEST_URL)
    demo_dataset_tarball_url = file_field(required=True, shortest=1)
    demo_dataset_tarball_hash = hash_field(required=True, shortest=1)
    demo_dataset_generated_uid = hash_field()
    data_preparation_mlcube = uid_field(required=True)
    reference_model_mlcube = uid_field(required=True)
    data_evaluator_mlcube = uid_field(required=True)
    metadata = object_field(attribute="metadata_")
    state = fields.String(validate=State)
    is_valid = Truth()
    is_active = Truth()
    is_private = Truth()
    approval_status = fields.String(validate=Status)
    user_metadata = object_field()
    approved_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)
    approved_digest = fields.String(dump_only=True)
    ranking_audience = fields.String(validate=validate.OneOf([OWNERS, PARTICIPANTS, MEMBERS]))
    ranking_sites = fields.String(validate=validate.OneOf([NAMES, LETTERS]))
    ranking_published = Truth()


class SeenBenchmarkSchema(BenchmarkSchema):
    """Changes to a benchmark that somebody has looked at; see `approval.content_digest`."""

    seen = fields.String(load_only=True, validate=DIGEST)


class InviteSchema(Schema):
    """Whom to show a private benchmark: one of the two."""

    class Meta:
        unknown = "exclude"

    email = email_field()
    user = uid_field()

    @validates_schema
    def _one(self, values: dict[str, Any], **_: Any) -> None:
        if len(values) != 1:
            raise ValidationError("give either email or user")


class MemberSchema(Schema):
    """A member to whom a benchmark is shown while it is private."""

    user = fields.Integer(attribute="user_id")
    email = fields.String(attribute="member.email")
    created_at = fields.DateTime(format="iso")


class BenchmarkQuery(EntityQuery):
    """Filters of a list of benchmarks."""

    is_active = truth_in_query()
    approval_status = fields.String(validate=Status)
