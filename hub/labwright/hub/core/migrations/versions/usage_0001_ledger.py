"""The ledger: accounts, reservations, clock."""

import sqlalchemy as sa
from alembic import op

revision = "usage_0001"
down_revision = "0001"
branch_labels = ("usage",)
depends_on = None


def upgrade() -> None:
    op.create_table("ledger_accounts", sa.Column("name", sa.Text, primary_key=True))
    op.create_table(
        "ledger_reservations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("profile", sa.Text),
        sa.Column("cpu", sa.Float, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("gpu", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("price_per_hour", sa.Float, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("outcome", sa.Text),
    )
    live = sa.text("ended IS NULL")
    op.create_index(
        "ix_ledger_reservations_live_key",
        "ledger_reservations",
        ["key"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index("ix_ledger_reservations_account_ended", "ledger_reservations", ["account", "ended"])
    op.create_index("ix_ledger_reservations_key_created", "ledger_reservations", ["key", "created"])
    op.create_index("ix_ledger_reservations_user", "ledger_reservations", ["user"])
    op.create_table(
        "ledger_clock",
        sa.Column("boot", sa.Text, primary_key=True),
        sa.Column("steady_seconds", sa.Float, nullable=False),
        sa.Column("wall", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("ledger_clock", "ledger_reservations", "ledger_accounts"):
        op.drop_table(table)
