"""A public key on the wire."""

from marshmallow import fields

from medperf_server.readable import Short
from medperf_server.schemas import EntitySchema, name_field, text_field


class KeySchema(EntitySchema):
    """A public key."""

    name = name_field(Short(), shortest=0)
    public_key = text_field(required=True)
    keyid = fields.String(dump_only=True)
    revoked_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)


class KeyUpdateSchema(KeySchema):
    """Changes to a key: what it is called, and that it is not its owner's any more."""

    class Meta(KeySchema.Meta):
        dump_only = ("public_key",)

    is_revoked = fields.Boolean(load_only=True, truthy={True}, falsy={False})
