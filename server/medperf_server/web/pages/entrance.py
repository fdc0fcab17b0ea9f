"""Coming in and going out: sign in with a token or an invitation, sign out."""

from collections.abc import Mapping
from threading import BoundedSemaphore
from typing import Any

from flask import abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from medperf_server import invitations
from medperf_server.callers import Caller
from medperf_server.limits import count_failure
from medperf_server.models import ADMIN
from medperf_server.web import session
from medperf_server.web.blueprint import blueprint

MAX_FORM_BYTES = 1 << 16
READING = BoundedSemaphore(4)


@blueprint.get("/sign-in")
def sign_in() -> Any:
    """The form that asks for a token."""
    onward = session.local(request.args.get("next"))
    if "caller" in g:
        return redirect(onward)
    return render_template("sign_in.html", onward=onward)


@blueprint.post("/sign-in")
def sign_in_form() -> Any:
    """Open a session with a token."""
    form = _form_of_anybody()
    onward = session.local(form.get("next"))
    secret = session.open_session(form.get("token", ""))
    if secret is None:
        error = "This is not a valid token. It may have expired, or have been revoked."
        answer: tuple[int, dict[str, str]] = (401, {})
        try:
            count_failure()
        except TooManyRequests as refused:
            error = f"{error} {refused.description}: wait before you try again."
            answer = (429, {"Retry-After": str(refused.retry_after)})
        return render_template("sign_in.html", onward=onward, error=error), *answer
    return session.remember(redirect(onward, 303), secret)


@blueprint.post("/sign-out")
def sign_out() -> Any:
    """End the session."""
    session.end_session()
    response = redirect(url_for("web.sign_in"), 303)
    response.delete_cookie(session.COOKIE)
    return response


@blueprint.get("/invitations/<secret>")
def invitation(secret: str) -> Any:
    """What an invitation offers. It is used by a button: programs that preview links only look."""
    return render_template("invitation.html", invitation=_valid(secret))


@blueprint.post("/invitations/<secret>")
def accept_invitation(secret: str) -> Any:
    """Become a member, signed in; the page shows the first token, this once."""
    user, uid, token = invitations.accept(_valid(secret))
    if not user.is_active:
        abort(403, "Your membership is disabled: ask an administrator")
    cookie = session.begin_session(Caller(user.id, user.is_admin, ADMIN, uid))
    page = render_template("welcome.html", user=user, token=token, server=request.host_url)
    return session.remember(make_response(page), cookie)


def _form_of_anybody() -> Mapping[str, str]:
    """The form of who is not known yet: it may keep a thread waiting, so a few do so at a time."""
    if not READING.acquire(blocking=False):
        raise ServiceUnavailable("Too many are signing in: try again in a moment", retry_after=5)
    try:
        request.max_content_length = MAX_FORM_BYTES
        return request.form
    finally:
        READING.release()


def _valid(secret: str) -> Any:
    found = invitations.find(secret)
    if found is None:
        count_failure()
        abort(404, "This invitation was used, revoked, or has expired: ask for another one")
    return found
