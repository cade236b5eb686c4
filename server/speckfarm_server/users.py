"""Who is calling: tokens to users, with a revocation seen within a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from speckfarm_server.errors import Unauthenticated
from speckfarm_server.store import users
from speckfarm_server.store.store import Store

logger = logging.getLogger(__name__)

REFRESH_S = 1.0
SHORTEST_REFRESH_S = 0.2
_SCHEME = "Bearer "


class Tokens:
    """Every token's owner, read anew every second and whenever an unknown token comes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owners: dict[str, tuple[str, bool]] = {}
        self._task: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Read all tokens, then keep reading."""
        await self._refresh()
        self._task = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """The calling user; Unauthenticated TOKEN_MISSING, TOKEN_UNKNOWN or TOKEN_REVOKED."""
        header = next((str(value) for key, value in metadata if key == "authorization"), "")
        if not header.startswith(_SCHEME):
            text = "The call carries no token; run `speckfarm login`, or set SPECKFARM_TOKEN"
            raise Unauthenticated("TOKEN_MISSING", text)
        digest = users.digest_of(header[len(_SCHEME) :])
        if digest not in self._owners:
            await self._refresh_soon()
        if digest not in self._owners:
            text = "The farm does not know this token; ask its operator for one"
            raise Unauthenticated("TOKEN_UNKNOWN", text)
        user, is_valid = self._owners[digest]
        if not is_valid:
            text = f"This token of {user} was revoked; ask the farm's operator for another"
            raise Unauthenticated("TOKEN_REVOKED", text, user=user)
        return user

    async def _refresh_soon(self) -> None:
        """Look once for many strangers: their guesses must not cost a read each."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh_later())
        await asyncio.shield(self._refreshing)

    async def _refresh_later(self) -> None:
        try:
            await self._refresh()
            await asyncio.sleep(SHORTEST_REFRESH_S)
        finally:
            self._refreshing = None

    async def _refresh(self) -> None:
        self._owners = await self._store.read(users.token_owners)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._refresh()
            except Exception:  # a revocation must be seen once the database can be read again
                logger.exception("tokens could not be read; trying again")
