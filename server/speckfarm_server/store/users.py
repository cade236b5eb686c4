"""Users and their tokens. A token is shown once and stored as its SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from speckfarm_server.errors import BadInput, NotFound, WrongState
from speckfarm_server.store import schema

NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class User:
    """Someone who may use the farm."""

    name: str
    created_us: int
    revoked_us: int | None


def add_user(connection: Connection, name: str) -> str:
    """Create a user, or give a revoked one back its place; returns a new token.

    Raises BadInput USER_NAME_INVALID, WrongState USER_EXISTS.
    """
    if not NAME.fullmatch(name):
        message = f"{name!r} is no user name; 1 to 32 of a-z 0-9 . _ -, a letter first"
        raise BadInput("USER_NAME_INVALID", message, found=name)
    known = next((user for user in list_users(connection) if user.name == name), None)
    if known is not None and known.revoked_us is None:
        message = f"User {name!r} exists; revoke first to replace the token"
        raise WrongState("USER_EXISTS", message, user=name)
    now_us = time.time_ns() // 1000
    if known is None:
        row = {"name": name, "created_us": now_us, "revoked_us": None}
        connection.execute(insert(schema.USERS).values(row))
    else:
        users = schema.USERS
        connection.execute(update(users).where(users.c.name == name).values(revoked_us=None))
    return issue_token(connection, name)


def issue_token(connection: Connection, user: str) -> str:
    """Give a user one more token."""
    token = f"sf_{secrets.token_urlsafe(32)}"
    now_us = time.time_ns() // 1000
    row = {"digest": digest_of(token), "user": user, "created_us": now_us, "revoked_us": None}
    connection.execute(insert(schema.TOKENS).values(row))
    return token


def revoke_user(connection: Connection, name: str) -> None:
    """Refuse all tokens of a user from now on; NotFound USER_NOT_FOUND."""
    now_us = time.time_ns() // 1000
    users, tokens = schema.USERS, schema.TOKENS
    change = update(users).where(users.c.name == name).values(revoked_us=now_us)
    if connection.execute(change).rowcount == 0:
        raise NotFound("USER_NOT_FOUND", f"There is no user {name!r}", user=name)
    connection.execute(
        update(tokens)
        .where(tokens.c.user == name, tokens.c.revoked_us.is_(None))
        .values(revoked_us=now_us)
    )


def list_users(connection: Connection) -> list[User]:
    """All users by name, revoked ones too."""
    rows = connection.execute(select(schema.USERS).order_by(schema.USERS.c.name))
    return [User(name=r.name, created_us=r.created_us, revoked_us=r.revoked_us) for r in rows]


def token_owners(connection: Connection) -> dict[str, tuple[str, bool]]:
    """SHA-256 of every token -> (user, whether it still counts)."""
    rows = connection.execute(select(schema.TOKENS))
    return {row.digest: (row.user, row.revoked_us is None) for row in rows}


def digest_of(token: str) -> str:
    """SHA-256 of a token in hex; tokens are random, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
