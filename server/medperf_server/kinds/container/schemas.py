"""A container on the wire."""

from marshmallow import fields

from medperf_server.readable import Short
from medperf_server.schemas import (
    EntitySchema,
    State,
    Truth,
    file_field,
    hash_field,
    name_field,
    object_field,
)


class ContainerSchema(EntitySchema):
    """A container."""

    name = name_field(Short(), required=True)
    git_mlcube_url = file_field(required=True, shortest=1)
    mlcube_hash = hash_field(required=True, shortest=1)
    git_parameters_url = file_field()
    parameters_hash = hash_field()
    image_tarball_url = file_field()
    image_tarball_hash = hash_field()
    image_hash = hash_field()
    additional_files_tarball_url = file_field()
    additional_files_tarball_hash = hash_field()
    state = fields.String(validate=State)
    is_valid = Truth()
    metadata = object_field(attribute="metadata_")
    user_metadata = object_field()
