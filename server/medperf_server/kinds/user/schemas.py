"""A member on the wire."""

from marshmallow import Schema, fields

from medperf_server.schemas import email_field, name_field


class UserSchema(Schema):
    """A member."""

    class Meta:
        unknown = "exclude"

    id = fields.Integer(dump_only=True)
    username = name_field()
    email = email_field()
    first_name = name_field(longest=150, shortest=0)
    last_name = name_field(longest=150, shortest=0)
