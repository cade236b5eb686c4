"""The devkit that was accepted as a real board last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "board_devices",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("logic_version", sa.BigInteger(), nullable=False),
        sa.Column("usb_path", sa.String(length=64), nullable=False),
        sa.Column("usb_address", sa.Integer(), nullable=False),
        sa.Column("disowned_proof", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("board_devices")
