"""What was found in a document, what its member decided, and so what may leave."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medperf_client.disclosure.documents import digest, without
from medperf_client.disclosure.finding import Finding
from medperf_client.disclosure.rules import VERSION, Rules, every

UNNAMED = "a key that is not named"


@dataclass(frozen=True)
class Decision:
    """What a member decided on a key, and when, in UTC.

    With a reason (`because`) what `rule` finds there is accepted, without one the value is left
    out. `by` is who they are, as the registry knows them.
    """

    key: str
    at: str
    by: str
    rule: str = ""
    because: str = ""


@dataclass(frozen=True)
class Reviewed:
    """A document as it may leave (`document`), and what stands in its way (`open`).

    `accepted` are the findings that somebody accepted, `allowed` those that the policy allows, each
    with the reason; `redacted` are the keys that were left out.
    """

    document: dict[str, Any]
    rules: Rules
    open: list[Finding] = field(default_factory=list)
    accepted: list[tuple[Finding, Decision]] = field(default_factory=list)
    allowed: list[tuple[Finding, str]] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """What goes along with the document: what was checked, by which rules, what was decided.

        `digest` is of the document as it leaves. Who decided is not in it, for others than the
        registry's owner would learn whose the data are; `unresolved` is what a policy that only
        warns let pass.
        """
        return {
            "digest": digest(self.document),
            "rules": VERSION,
            "thresholds": self.rules.thresholds,
            "accepted": [
                {"key": one.key, "rule": one.rule, "because": decision.because, "at": decision.at}
                for one, decision in self.accepted
            ],
            "allowed": [
                {"key": one.key, "rule": one.rule, "because": because}
                for one, because in self.allowed
            ],
            "redacted": self.redacted,
            "unresolved": [{"key": one.key, "rule": one.rule} for one in self.open],
        }


def review(original: Mapping[str, Any], rules: Rules, decisions: tuple[Decision, ...]) -> Reviewed:
    """What may leave of a document, once what its member decided is done.

    What is left out may make other figures tell more, so it is checked without that.
    """
    names = {one.key for one in every(original, rules) if one.is_name}
    left_out = {one.key for one in decisions if not one.because}
    document = without(original, left_out, names)
    accepted = {(one.key, one.rule): one for one in decisions if one.because}
    reviewed = Reviewed(document, rules, redacted=_told(left_out, names))
    for finding in every(document, rules):
        decision = accepted.get((finding.key, finding.rule))
        allowed = next((one.because for one in rules.allowed if one.covers(finding)), None)
        if decision is not None:
            reviewed.accepted.append((finding, decision))
        elif allowed is not None:
            reviewed.allowed.append((finding, allowed))
        else:
            reviewed.open.append(finding)
    return reviewed


def _told(left_out: set[str], names: set[str]) -> list[str]:
    """The keys that were left out, without those that lie in others, or are not to be named."""
    tops = sorted(
        key
        for key in left_out
        if not any(key.startswith((f"{one}.", f"{one}[")) for one in left_out if one)
    )
    told = [key for key in tops if key not in names]
    return told + [UNNAMED] * (len(tops) - len(told))
