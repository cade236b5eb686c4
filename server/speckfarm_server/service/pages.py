"""Opaque page tokens: a keyset of (time, id), so that pages stay right while rows are added."""

from __future__ import annotations

import base64
import binascii
import json

from speckfarm_server.errors import BadInput
from speckfarm_server.store.rows import Page

DEFAULT_SIZE, MAX_SIZE = 50, 1000


def page_of(size: int, token: str) -> Page:
    """Read a page request; BadInput PAGE_SIZE_INVALID or PAGE_TOKEN_INVALID."""
    if not token:
        return Page(size=size_of(size))
    try:
        before_us, before_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        return Page(size=size_of(size), before_us=int(before_us), before_id=str(before_id))
    except (binascii.Error, ValueError, TypeError):
        text = "page_token is not from an earlier answer; leave it empty to start"
        raise BadInput("PAGE_TOKEN_INVALID", text) from None


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
