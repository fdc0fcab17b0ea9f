"""Where a site's state lives, and its profiles: one registry and its settings each."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medperf_client import urls
from medperf_client.errors import ReadOnly, UsageError
from medperf_client.files import is_absent, write_atomically

DEFAULT_SERVER_URL = "http://127.0.0.1:8000"
DEFAULT_PROFILE = "default"
AUTO = "auto"
DOCKER, PODMAN, APPTAINER, PROCESS = "docker", "podman", "apptainer", "process"
ENGINES = (DOCKER, PODMAN, APPTAINER, PROCESS)
PLATFORMS = (AUTO, *ENGINES)
# What a socket's time limit can hold is less than what a number can.
MOST_SECONDS = 1e9
HOME_HINT = "Set MEDPERF_HOME, or HOME, to a folder that you can write to."
OFFLINE_WORDS = frozenset({"1", "true", "yes", "on"})
ONLINE_WORDS = frozenset({"", "0", "false", "no", "off"})
CONFIG_HINT = "Correct it, or delete it to start again from the defaults."


@dataclass(frozen=True)
class Profile:
    """A registry and how this site works with it.

    Times are in seconds, `memory` in bytes; None means no bound. `config.example.yaml` explains
    each.
    """

    server_url: str = DEFAULT_SERVER_URL
    platform: str = AUTO
    allow_process: bool = False
    connect_timeout: float = 2.0
    read_timeout: float = 60.0
    answer_timeout: float = 300.0
    download_bytes: int = 1 << 38
    download_speed: int = 1000
    task_timeout: float | None = None
    pids_limit: int = 1024
    memory: int | None = None
    output_bytes: int = 10**11
    output_files: int = 1_000_000
    read_only_root: bool = False
    mirrors: Mapping[str, list[str]] = field(default_factory=dict)
    resend_days: int = 30
    datasets_folder: str | None = None
    releases_folder: str | None = None
    shared_caches: Sequence[str] = field(default_factory=list)
    executor: Mapping[str, Any] | None = None

    def with_text(self, key: str, text: str) -> "Profile":
        """A copy with one setting read from text, as `profile set` takes it.

        Raises `UsageError` naming the settings there are, or the value that was expected.
        """
        # Imported late: who sets nothing does not pay for it.
        from medperf_client import strict_yaml

        try:
            value = strict_yaml.read(text)
        except ValueError as error:
            raise UsageError(f"{key}: {text!r} is not a value") from error
        return _profile({**asdict(self), key: value}, "this profile")


_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "server_url": ((str,), "a URL such as https://registry.example.org"),
    "platform": ((str,), f"one of {', '.join(PLATFORMS)}"),
    "allow_process": ((bool,), "true or false"),
    "connect_timeout": ((int, float), "seconds"),
    "read_timeout": ((int, float), "seconds"),
    "answer_timeout": ((int, float), "seconds"),
    "download_bytes": ((int,), "bytes"),
    "download_speed": ((int,), "bytes a second"),
    "task_timeout": ((int, float, type(None)), "seconds, or null for no bound"),
    "pids_limit": ((int,), "a number of processes"),
    "memory": ((int, type(None)), "bytes, or null for no bound"),
    "resend_days": ((int,), "a number of days"),
    "datasets_folder": ((str, type(None)), "a folder, or null for the one in MEDPERF_HOME"),
    "releases_folder": ((str, type(None)), "a folder, or null for one in datasets_folder"),
    "output_bytes": ((int,), "bytes"),
    "output_files": ((int,), "a number of files"),
    "read_only_root": ((bool,), "true or false"),
    "shared_caches": ((list,), "a list of folders, such as [/mnt/cluster/medperf/cache]"),
    "executor": (
        (dict, type(None)),
        "settings such as {kind: slurm, shared_folder: /scratch/me}, or null for this machine",
    ),
    "mirrors": ((dict,), "lists of URLs by URL, such as {https://a.org/: [http://b.lan/]}"),
}


def _profile(values: object, where: str) -> Profile:
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected settings, found {values!r}")
    for key, value in values.items():
        if key not in _EXPECTED:
            raise UsageError(
                f"{where}: there is no setting {key!r}",
                hint=f"The settings are {', '.join(_EXPECTED)}.",
            )
        kinds, expected = _EXPECTED[key]
        # A bool is an int to isinstance, but not to who writes a configuration.
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        wrong = wrong or (key == "platform" and value not in PLATFORMS)
        if wrong or (number and not 0 < value < (MOST_SECONDS if float in kinds else 2**63)):
            raise UsageError(f"{where}: {key} expects {expected}, found {value!r}")
    _check_mirrors(values.get("mirrors", {}), where)
    _check_shared(values.get("shared_caches", []), where)
    if values.get("executor") is not None:
        # Imported late: who has no queue does not pay for it.
        from medperf_client.settings.executors import executor_settings

        executor_settings(values["executor"], where)
    profile = replace(Profile(), **values)
    return replace(profile, server_url=_server_url(profile.server_url, where))


def _check_mirrors(mirrors: Mapping[object, object], where: str) -> None:
    for prefix, others in mirrors.items():
        if not isinstance(others, list):
            raise UsageError(f"{where}: mirrors: {prefix!r} expects URLs, found {others!r}")
        for url in (prefix, *others):
            # Without the slash a prefix would stand for other hosts too, whose names begin so.
            form = r"https?://[^/\s]+/(\S*/)?"
            if not (isinstance(url, str) and url.isprintable() and re.fullmatch(form, url)):
                raise UsageError(
                    f"{where}: mirrors: {url!r} is not a URL that ends with a slash",
                    hint="Both URLs of a mirror stand for the beginnings of many: "
                    "https://example.org/files/",
                )
            _check_url(url, where, "mirrors:")


def _check_shared(folders: Sequence[object], where: str) -> None:
    for folder in folders:
        if not (isinstance(folder, str) and folder.strip() and "\0" not in folder):
            raise UsageError(
                f"{where}: shared_caches: {folder!r} is not a folder",
                hint="Each is the cache folder of somebody else: [/mnt/cluster/medperf/cache]",
            )


def _server_url(url: str, where: str) -> str:
    if not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", url) or not url.isprintable():
        raise UsageError(
            f"{where}: server_url {url!r} is not a registry's URL",
            hint="It starts with http:// or https://, such as https://registry.example.org, and "
            "holds no user name, password or query.",
        )
    _check_url(url, where, "server_url")
    return url.rstrip("/")


def _check_url(url: str, where: str, key: str) -> None:
    try:
        urls.split(url)
    except ValueError as error:
        raise UsageError(f"{where}: {key} {url!r} is not a URL: {error}") from error


@dataclass(frozen=True)
class Home:
    """The folders of a site: `data` is never cleaned by a cache command, `cache` can be rebuilt."""

    data: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> "Home":
        """Below `MEDPERF_HOME`, else in the platform's own data and cache folders.

        Raises `UsageError` for a user who has neither.
        """
        home = os.environ.get("MEDPERF_HOME")
        if home:
            return cls(Path(home).absolute(), Path(home).absolute() / "cache")
        # Imported late: it is slow, and not needed where MEDPERF_HOME is set.
        from platformdirs import user_cache_path, user_data_path

        try:
            found = cls(user_data_path("medperf"), user_cache_path("medperf"))
        except RuntimeError:
            found = None
        # In a job or container a user may have no home. Some versions of it let the "~" stand.
        if found is None or not (found.data.is_absolute() and found.cache.is_absolute()):
            raise UsageError("this user has no home folder", HOME_HINT)
        return found

    @property
    def config_file(self) -> Path:
        """The profiles."""
        return self.data / "config.yaml"

    @property
    def policy_file(self) -> Path:
        """What the site's staff laid down on what may leave it."""
        return self.data / "policy.yaml"

    @property
    def is_writable(self) -> bool:
        """Whether anything can be kept here, if there is room; where it is yet to be made, too."""
        nearest = next(one for one in (self.data, *self.data.parents) if os.path.exists(one))
        return os.access(nearest, os.W_OK | os.X_OK)

    def require_writable(self) -> None:
        """Raise `ReadOnly` where nothing can be kept."""
        if not self.is_writable:
            raise ReadOnly(
                f"{self.data} can only be read, and this would change it: mount it writable, or "
                "set MEDPERF_HOME to a folder that you can write to"
            )

    def registry(self, server_url: str) -> Path:
        """The folder of what belongs to one registry: catalog, reports, outbox."""
        return self.data / "registries" / quote(server_url, safe="")


def offline_as_set() -> bool:
    """Whether `MEDPERF_OFFLINE` says to open no connection. Raises `UsageError` for other words."""
    text = os.environ.get("MEDPERF_OFFLINE", "").strip().lower()
    if text not in ONLINE_WORDS | OFFLINE_WORDS:
        raise UsageError(
            f"MEDPERF_OFFLINE: {text!r} says neither yes nor no", "Use 1 to work offline, else 0."
        )
    return text in OFFLINE_WORDS


@dataclass(frozen=True)
class Config:
    """The profiles of a site and which one is active."""

    active: str = DEFAULT_PROFILE
    profiles: Mapping[str, Profile] = field(default_factory=lambda: {DEFAULT_PROFILE: Profile()})

    @property
    def profile(self) -> Profile:
        """The active profile, `MEDPERF_SERVER_URL` in place of its registry if that is set."""
        chosen = self.profiles[self.active]
        url = os.environ.get("MEDPERF_SERVER_URL")
        return replace(chosen, server_url=_server_url(url, "MEDPERF_SERVER_URL")) if url else chosen

    def get(self, name: str) -> Profile:
        """The profile called `name`. Raises `UsageError` naming those there are."""
        if name not in self.profiles:
            raise UsageError(
                f"there is no profile {name!r}", hint=f"There are: {', '.join(self.profiles)}."
            )
        return self.profiles[name]

    def with_profile(self, name: str, profile: Profile) -> "Config":
        """A copy with one profile added or replaced. Raises `UsageError` for an odd name."""
        if not name or not name.isprintable():
            raise UsageError(f"{name!r} is not a name for a profile", hint="Use plain text.")
        return replace(self, profiles={**self.profiles, name: profile})


def load_config(file: Path) -> Config:
    """Read the profiles. A missing file is the default profile.

    Raises `UsageError` naming the file, the profile and the setting that is wrong.
    """
    try:
        if is_absent(file):
            return Config()
        # Imported late: who has no profiles does not pay for it.
        from medperf_client import strict_yaml

        content = strict_yaml.read(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint=CONFIG_HINT) from error
    if not isinstance(content, dict) or not isinstance(content.get("profiles"), dict):
        raise UsageError(f"{file}: expected the keys 'active' and 'profiles'", hint=CONFIG_HINT)
    profiles = {
        str(name): _profile({} if values is None else values, f"{file}, profile {name}")
        for name, values in content["profiles"].items()
    }
    active = str(content.get("active", DEFAULT_PROFILE))
    if active not in profiles:
        raise UsageError(
            f"{file}: active is {active!r}, which is not among the profiles",
            hint=f"There are: {', '.join(profiles)}.",
        )
    return Config(active, profiles)


def save_config(config: Config, file: Path) -> None:
    """Write the profiles, whole or not at all; settings at their defaults are left out."""
    import yaml

    defaults = asdict(Profile())
    profiles = {
        name: {k: v for k, v in asdict(profile).items() if v != defaults[k]}
        for name, profile in config.profiles.items()
    }
    text = yaml.safe_dump({"active": config.active, "profiles": profiles}, sort_keys=False)
    write_atomically(file, text)
