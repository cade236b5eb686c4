"""Opaque page tokens: a keyset of (time, id), so that pages stay right while rows are added."""

from __future__ import annotations

import base64
import binascii
import json

from speckfarm_server.errors import BadInput
from speckfarm_server.store.rows import Page

DEFAULT_SIZE, MAX_SIZE = 50, 1000
_INT64_DIGITS = 19  # of the largest number that the database takes


def page_of(size: int, token: str) -> Page:
    """Read a page request; BadInput PAGE_SIZE_INVALID or PAGE_TOKEN_INVALID."""
    if not token:
        return Page(size=size_of(size))
    try:
        before_us, before_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        before_us = checked_key(str(before_us))
    except (binascii.Error, ValueError, TypeError):
        raise _not_ours() from None
    return Page(size=size_of(size), before_us=before_us, before_id=str(before_id))


def checked_key(text: str) -> int:
    """The number in a page token; BadInput PAGE_TOKEN_INVALID if no answer had it."""
    if text.isdecimal() and len(text) < _INT64_DIGITS:
        return int(text)
    raise _not_ours()


def size_of(size: int) -> int:
    """Size of a page; 0 means the default."""
    if 0 <= size <= MAX_SIZE:
        return size or DEFAULT_SIZE
    text = f"page_size is {size}; allowed are 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}"
    raise BadInput("PAGE_SIZE_INVALID", text, found=size, allowed=MAX_SIZE)


def next_token(rows: int, size: int, created_us: int, key: str) -> str:
    """Token of the page after one that ends with (created_us, key); empty if it was not full."""
    if rows < size:
        return ""
    return base64.urlsafe_b64encode(json.dumps([created_us, key]).encode()).decode()


def _not_ours() -> BadInput:
    text = "page_token is not from an earlier answer; leave it empty to start"
    return BadInput("PAGE_TOKEN_INVALID", text)
