"""What left, for who audits it: as JSON, as CSV, and as a page to print."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_cache.chain import Head, Verdict
from medperf_cache.packing import named, replacing
from medperf_client.ledger.page import page
from medperf_client.ledger.records import Departure, Ledger, agreed, shown
from medperf_client.spreadsheets import csv_lines

COLUMNS = (
    *("line", "at", "member", "agreed", "registry", "what", "method", "path", "file", "key"),
    *("bytes", "sha256", "answered_at", "status", "uid", "outcome"),
)


def row(departure: Departure) -> dict[str, Any]:
    """One departure as flat fields, None where there is nothing to say."""
    record, answer = departure.record, departure.answer or {}
    member = record.get("member") or {}
    return {
        "line": departure.number,
        "at": record["at"],
        "member": member.get("email") or member.get("id"),
        "agreed": agreed(record) or None,
        "registry": record["registry"],
        "what": record.get("what", "file" if "upload" in record else "request"),
        **{name: record.get(name) for name in ("method", "path", "file", "key")},
        "bytes": departure.size_bytes,
        "sha256": departure.sha256,
        "answered_at": answer.get("at"),
        "status": answer.get("status"),
        "uid": answer.get("uid"),
        "outcome": departure.outcome,
    }


def record(ledger: Ledger, departure: Departure) -> dict[str, Any]:
    """All that is known of one departure: its lines, what left, and documents that were in it."""
    documents = departure.record.get("attached", {})
    return {
        "line": departure.number,
        "sent": shown(departure.record),
        "answer": shown(departure.answer) if departure.answer else None,
        "body": document(ledger.body(departure)),
        "attached": {
            name: [document(line) for line in ledger.chain.kept(digest).splitlines()]
            for name, digest in documents.items()
        },
    }


def document(body: bytes | None) -> Any:
    """A body as JSON, or as text where it is none; None for nothing."""
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """What a look at the ledger found, as JSON."""
    return {
        "lines": verdict.lines,
        "last": noted(verdict.last),
        "findings": verdict.findings,
        "notes": verdict.notes,
    }


def noted(last: Head | None) -> str | None:
    """The last line as people note it: its number and its digest."""
    return f"{last.number}:{last.digest}" if last else None


def export(ledger: Ledger, registry: str, file: Path, form: str, bodies: bool) -> Verdict:
    """Write what left to a file as "html", "json" or "csv", with what was sent itself if `bodies`.

    The ledger is verified first, and the file says what was found; a table has no place for that.
    The file appears whole or not at all, in place of an earlier one. Raises `NotWritable`.
    """
    verdict = ledger.verify()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    left = list(ledger.departures())
    if form == "html":
        pieces = page(ledger, left, registry, now, verdict, noted(verdict.last), bodies)
    elif form == "csv":
        pieces = csv_lines((COLUMNS, *(row(one).values() for one in left)))
    else:
        about = {"registry": registry, "exported_at": now, "ledger": verdict_record(verdict)}
        known = [record(ledger, one) if bodies else row(one) for one in left]
        pieces = iter([json.dumps({**about, "left": known}, indent=1) + "\n"])
    with replacing(file) as new, named(file), open(new, "wb") as out:
        for piece in pieces:
            out.write(piece.encode("utf-8", "backslashreplace"))
    return verdict
