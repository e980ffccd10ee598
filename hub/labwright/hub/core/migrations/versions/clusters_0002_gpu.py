"""The GPUs of a cluster's worker. Clusters that run meanwhile hold none, as they did."""

import sqlalchemy as sa
from alembic import op

revision = "clusters_0002"
down_revision = "clusters_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clusters", sa.Column("gpu", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("clusters", "gpu")
