"""Containers: what runs. The wire calls them mlcubes."""

from medperf_client.kinds.kind import Kind

# What pins a container's content.
PINS = (
    *("mlcube_hash", "parameters_hash", "image_hash", "image_tarball_hash"),
    "additional_files_tarball_hash",
)

CONTAINER = Kind(
    name="mlcube",
    word="container",
    form={
        **dict.fromkeys(("name", "state", "git_mlcube_url", "mlcube_hash"), str),
        **dict.fromkeys(("git_parameters_url", "parameters_hash", "image_hash"), str),
        **dict.fromkeys(("image_tarball_url", "image_tarball_hash"), str),
        **dict.fromkeys(("additional_files_tarball_url", "additional_files_tarball_hash"), str),
        **dict.fromkeys(("id", "owner"), int),
        "is_valid": bool,
    },
    path="/mlcubes/",
    listed="/mlcubes/",
    mine="/me/mlcubes/",
    step="mlcubes",
    unique=("name", *PINS),
    content=PINS,
    is_public=True,
)
