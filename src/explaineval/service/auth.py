"""Who is asking: a token in the header, or the session of a browser that gave its token once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from explaineval.service.settings import LOCAL, Settings
from explaineval.service.table import StateFile

COOKIE = "explaineval_session"
CSRF_HEADER = "x-csrf-token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class AuthError(Exception):
    """The request may not be answered: status 401 where a token is missing, 403 where it is not enough."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class User:
    """Who is asking: the name of the token, whether it sees all runs, and the session's secret against forgery."""

    token: str
    admin: bool
    csrf: str | None = None


class Auth:
    """The tokens of the service, and the sessions of browsers.

    Args:
        settings: who has tokens.
        digests: SHA-256 of each token by name (see `settings.read_tokens`); none means that everybody is the one local
            user, an admin.
        table: where sessions are kept, as digests.
        clock: returns seconds since 1970.
    """

    def __init__(
        self, settings: Settings, digests: Mapping[str, bytes], table: StateFile, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.digests, self.table, self.clock = settings, digests, table, clock

    @property
    def is_open(self) -> bool:
        """Whether there are no tokens."""
        return not self.digests

    def user_of_token(self, token: str) -> User | None:
        """Return whose token it is, compared in the same time whatever it is."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        owner = None
        for name, own in self.digests.items():
            if hmac.compare_digest(own, digest):
                owner = name
        return None if owner is None else User(owner, self.settings.tokens[owner].admin)

    def login(self, token: str) -> str | None:
        """Begin a session; return the value of its cookie, None for a wrong token. Writes to the table."""
        user = self.user_of_token(token)
        if user is None:
            return None
        session = secrets.token_urlsafe(32)
        now = self.clock()
        expires = now + 3600 * self.settings.limits.session_hours
        self.table.add_session(_digest(session), user.token, self.digests[user.token], expires, now)
        return session

    def logout(self, session: str) -> None:
        """End a session. Writes to the table."""
        self.table.delete_session(_digest(session))

    def user_of_session(self, session: str) -> User | None:
        """Return whose session it is; None where it has expired, or the token was changed since. Reads the table."""
        owner = self.table.session(_digest(session), self.clock())
        if owner is None:
            return None
        name, digest = owner
        if not hmac.compare_digest(self.digests.get(name, b""), digest):
            return None
        return User(name, self.settings.tokens[name].admin, csrf_of(session))

    def authenticate(self, method: str, headers: Mapping[str, str], cookie: str | None, form_csrf: str | None) -> User:
        """Return who is asking. Reads the table.

        Args:
            method: of the request.
            headers: of the request, their names in lower case.
            cookie: the value of the session's cookie.
            form_csrf: the secret against forgery from a form's field, where the header does not hold it.

        Raises:
            AuthError: there is no token or session, or another site may have sent the request.
        """
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if given:
            user = self.user_of_token(token.strip()) if scheme.lower() == "bearer" else None
            if user is not None:
                return user
            if not self.is_open:
                raise AuthError(401, "the token is wrong.")
        if method not in SAFE:
            check_origin(headers)
        if self.is_open:
            return User(LOCAL, admin=True)
        user = None if not cookie else self.user_of_session(cookie)
        if user is None or user.csrf is None:
            raise AuthError(401, "a token is needed: send `Authorization: Bearer TOKEN`, or log in.")
        if method not in SAFE:
            sent = headers.get(CSRF_HEADER) or form_csrf or ""
            if not hmac.compare_digest(user.csrf.encode(), sent.encode("utf-8", "surrogatepass")):
                raise AuthError(403, "the request lacks the session's X-CSRF-Token: load the page again.")
        return user


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise AuthError where a browser says that another site made the request."""
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site in ("cross-site", "same-site"):
        raise AuthError(403, "the request comes from another site.")
    if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
        raise AuthError(403, "the request comes from another site.")


def csrf_of(session: str) -> str:
    """Return the secret against forgery that belongs to a session; it does not reveal the session."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).digest()
