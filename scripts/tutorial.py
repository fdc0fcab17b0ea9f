"""Play a whole consortium on this machine, every part of it real, in a temporary folder.

The benchmark's committee, the registry's administrator, a model owner and two hospitals take part,
each with a home of their own. Started by `scripts/demo`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "breast_cancer"
sys.path.insert(0, str(EXAMPLE))

from cast import FileHost, Member, Network, RegistryHost, say  # noqa: E402
from hospitals import play_hospitals, verify  # noqa: E402
from mail import tell_of_a_model  # noqa: E402
from package import Layout, archive, members, package  # noqa: E402

# The tutorial's own path; here it holds our candidate, a small neural network.
MODEL = "medperf_tutorial/model_mobilenetv2/container_config.yaml"
FLAWLESS, DEMO_DATA = (
    EXAMPLE / "data" / "hospitals" / "lakeside",
    "assets/flawless_demo_data.tar.gz",
)
PREPARATOR = "data_preparator_staged"
# What a profile needs, so that it runs containers of a platform.
SETTINGS = {
    "docker": ("platform", "docker"),
    "apptainer": ("platform", "apptainer"),
    "process": ("allow_process", "true"),
}
PEOPLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("committee", "owner", "lakeside", "hillcrest"), ()),
    "administrator": ("--admin",),
}


def engine_answers() -> bool:
    """Whether a Docker engine can be used."""
    import docker

    try:
        return bool(docker.from_env(timeout=5).ping())
    except docker.errors.DockerException:
        return False


def build_images(layout: Layout) -> None:
    """Build the containers' images, on a base that needs no network: this machine's Python."""
    import docker
    from local_images import build

    engine = docker.from_env()
    for container in layout.containers.values():
        print(f"Building image {container.image}", flush=True)
        build(engine, container.config.path.parent, container.image)


def lay_out(folder: Path, platform: str, base_url: str) -> Layout:
    """The files that the tutorial's authors host, and what the model owner has at hand."""
    hosted, kind = folder / "hosted", "process" if platform == "process" else "docker"
    layout = package(hosted, platform=kind, image_prefix="", base_url=base_url)
    # What waits for a person in stages has nobody to wait for in a test: demo data without flaws.
    flawless = {"paths.yaml": EXAMPLE / "data" / "demo" / "paths.yaml", **members(FLAWLESS)}
    archive(flawless, hosted / DEMO_DATA)
    if kind == "docker":
        build_images(layout)
    workspace = folder / Path(MODEL).parent
    workspace.parent.mkdir()
    workspace.symlink_to(hosted / "model_mlp")
    return layout


def main() -> None:
    """Play it all; raises when a command does not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--platform",
        choices=list(SETTINGS),
        help="What runs the containers; Docker if an engine answers, else processes of this host. "
        "For Apptainer, too, Docker builds the images.",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="Keep the leaderboard's page in this file."
    )
    asked = parser.parse_args()
    platform = asked.platform or ("docker" if engine_answers() else "process")
    with tempfile.TemporaryDirectory(prefix="medperf-demo-") as temporary:
        folder = Path(temporary)
        play(folder, platform, asked.page or folder / "leaderboard.html")
    say("The end. All of it ran in a temporary folder, which is gone now.")


def play(folder: Path, platform: str, page: Path) -> None:
    """The tutorial of model owners, then that of data owners, in `folder`.

    The leaderboard is kept as `page`.
    """
    say(f"A registry for the consortium, and a host for its files (containers run as: {platform})")
    host = RegistryHost(folder / "registry")
    host.types("init")
    tokens = {
        who: host.types("user", "add", f"{who}@example.org", *options, "--quiet")
        for who, options in PEOPLE.items()
    }
    with Network(host, FileHost(folder / "hosted")) as network:
        layout = lay_out(folder, platform, network.files.url)
        people = {who: Member(who, folder, host.url) for who in tokens}
        for who, member in people.items():
            member.types("profile", "set", *SETTINGS[platform])
            member.types("auth", "login", answers=tokens[who])
        play_models(people, network, layout)
        play_hospitals(people, network, page)
        make_another_model(people["owner"], layout, network)
        tell_of_a_model(people["committee"], host, "5")
        verify(people, network)


def play_models(people: dict[str, Member], network: Network, layout: Layout) -> None:
    """The model owner's tutorial."""
    committee, owner = people["committee"], people["owner"]
    base_url = network.files.url
    make_benchmark(committee, people["administrator"], base_url, layout)
    test_model(owner)
    join_benchmark(owner, base_url, layout)
    say("The committee sees the request, and approves it")
    committee.types("association", "ls", "-bm")
    committee.types("association", "approve", "--benchmark", "1", "--model_uid", "4", "--yes")
    owner.types("association", "ls", "-bm")
    say("The registry and the file host are gone: what is cached still works")
    network.goes()
    owner.types("benchmark", "ls")
    test_model(owner)
    owner.types("test", "run", "--benchmark", "1", "--model", "4")
    say("They are back")
    network.returns()


def submit_container(member: Member, name: str, base_url: str, folder: str, layout: Layout) -> None:
    """`medperf container submit`, as the tutorial shows it."""
    options = ["--container-config-file", f"{base_url}{folder}/container_config.yaml"]
    options += ["--parameters-file", f"{base_url}{folder}/workspace/parameters.yaml"]
    if layout.containers[folder].additional_files is not None:
        options += ["--additional-file", f"{base_url}assets/{folder}_additional_files.tar.gz"]
    member.types("container", "submit", "--name", name, *options, "--operational", answers="y\n")


def make_benchmark(committee: Member, admin: Member, base_url: str, layout: Layout) -> None:
    """What the tutorial takes for granted: three containers and an approved benchmark."""
    say("The benchmark committee submits its containers and its benchmark")
    for folder in (PREPARATOR, "model_logistic", "metrics"):
        name = folder.removesuffix("_staged").replace("_", "-")
        submit_container(committee, name, base_url, folder, layout)
    committee.types(
        *("benchmark", "submit", "--name", "breast-cancer"),
        *("--description", "Malignant or benign"),
        *("--demo-url", f"{base_url}{DEMO_DATA}"),
        *("--data-preparation-container", "1", "--reference-model-container", "2"),
        *("--evaluator-container", "3", "--operational"),
        *("--metrics", str(EXAMPLE / "metrics.yaml")),
        answers="y\n",
    )
    say("The registry's administrator approves the benchmark")
    admin.types("benchmark", "approve", "1", "--yes")


def test_model(owner: Member) -> None:
    """The tutorial's step 1."""
    say("1. Test your container's compatibility")
    owner.types("benchmark", "ls")
    owner.types("test", "run", "--benchmark", "1", "--model", MODEL)


def join_benchmark(owner: Member, base_url: str, layout: Layout) -> None:
    """The tutorial's steps 2 and 3."""
    say("2. Submit the container")
    submit_container(owner, "my-model", base_url, "model_mlp", layout)
    owner.types("container", "ls", "--mine")
    say("3. Request participation")
    owner.types("container", "associate", "--benchmark", "1", "--model_uid", "4", answers="y\n")
    owner.types("association", "ls", "-bm")


def make_another_model(owner: Member, layout: Layout, network: Network) -> None:
    """A second version of the tutorial's model, which is less sure of itself."""
    say("The model owner asks for a second version to be taken, with other parameters")
    parameters = layout.containers["model_mlp"].parameters.path
    told = parameters.read_text(encoding="utf-8")
    parameters.write_text(told.replace("temperature: 1", "temperature: 2"), encoding="utf-8")
    submit_container(owner, "my-model-2", network.files.url, "model_mlp", layout)
    owner.types("container", "associate", "--benchmark", "1", "--model_uid", "5", answers="y\n")


if __name__ == "__main__":
    main()
