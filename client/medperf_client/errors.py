"""What can go wrong, each with what to do next and the exit code a script sees."""

OK, FAILED, USAGE, QUEUED = 0, 1, 2, 3
LOGIN_HINT = "Log in with: medperf auth login"
ONLINE_HINT = "Leave --offline and MEDPERF_OFFLINE away to use the network."


class MedPerfError(Exception):
    """A failure with a message for people: what happened and, in `hint`, how to mend it."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MedPerfError):
    """The request itself makes no sense; nothing was tried."""

    exit_code = USAGE


class Offline(MedPerfError):
    """The registry, a file host or an image registry cannot be reached."""


class TryLater(Offline):
    """Somebody answered, but is too busy or broken, or an answer was lost on the way.

    `seconds` is how long they asked to be left alone, None if they did not say.
    """

    def __init__(self, message: str, hint: str = "", seconds: float | None = None) -> None:
        super().__init__(message, hint)
        self.seconds = seconds


class ReadOnly(MedPerfError):
    """The home can only be read, and what was asked would change it. Nothing was done."""


class Unrecorded(MedPerfError):
    """The ledger cannot be written, so nothing was sent. What was to go is as it was."""


class Refused(MedPerfError):
    """The registry, or a file host, answered and said no."""


class HeldBack(MedPerfError):
    """The disclosure check found what would tell of persons; nothing was sent."""


class NotAdmitted(MedPerfError):
    """The site's policy does not let something run on its data: it was neither fetched nor run."""


class Unsignable(UsageError):
    """What is to be released has no form that could be signed; nothing was sent."""


class NotLoggedIn(Refused):
    """The registry does not know who asks."""


class InvalidContainer(MedPerfError):
    """A container's files break the contract; the message names file, key and expectation."""


class Unsupported(MedPerfError):
    """A valid container of a kind that this machine cannot run."""


class WrongHash(MedPerfError):
    """Content is not what its hash promises."""


class ContainerFailed(MedPerfError):
    """A container ended with an error; the message names its log and the log's last lines."""
