"""Alembic migrations; `speckfarm-server serve` and `migrate` run them."""
