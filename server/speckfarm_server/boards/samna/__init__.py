"""Devkits driven through the vendor's library samna."""
