"""Boards, and the process that owns each of them."""
