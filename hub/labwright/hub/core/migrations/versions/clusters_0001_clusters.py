"""Clusters."""

import sqlalchemy as sa
from alembic import op

revision = "clusters_0001"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clusters",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("account_group", sa.Text),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("cpu", sa.Float, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("price_per_hour", sa.Float, nullable=False),
        sa.Column("workers_wanted", sa.Integer, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("reason", sa.Text),
        sa.Column("remote", sa.Text),
        sa.Column("port", sa.Integer),
        sa.Column("dashboard", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("workers", sa.Integer, nullable=False),
        sa.Column("memory_used_bytes", sa.BigInteger),
        sa.Column("activity", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger),
        sa.Column("stopped", sa.BigInteger),
        sa.Column("last_active", sa.BigInteger, nullable=False),
        sa.Column("renewed", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("clusters")
