"""Jobs, runs, what runs print while they run, and the runners that core started."""

from __future__ import annotations

import sqlalchemy as sa

from labwright.hub.core.schema import metadata
from labwright.hub.database import UtcDateTime

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("live_name", sa.Text, nullable=True),  # the name while the job is not deleted: unique per owner
    sa.Column("owner_groups", sa.JSON, nullable=False),  # as last looked up, for when the hub is down
    sa.Column("notebook_path", sa.Text, nullable=False),
    sa.Column("source_digest", sa.Text, nullable=False),
    sa.Column("follow", sa.Boolean, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("parameters_schema", sa.JSON, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("billed_group", sa.Text, nullable=True),
    sa.Column("cron", sa.Text, nullable=True),
    sa.Column("timezone", sa.Text, nullable=True),
    sa.Column("next_slot", UtcDateTime, nullable=True, index=True),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),
    sa.Column("runs", sa.Integer, nullable=False),  # the last run's number
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("updated", UtcDateTime, nullable=False),
    sa.Column("deleted", UtcDateTime, nullable=True),
    sa.Index("uq_jobs_owner_live_name", "owner", "live_name", unique=True),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("job_name", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("slot", UtcDateTime, nullable=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("dates", sa.JSON, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("billed_group", sa.Text, nullable=True),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("notebook_path", sa.Text, nullable=False),
    sa.Column("source_digest", sa.Text, nullable=False),
    sa.Column("output_digest", sa.Text, nullable=True),
    sa.Column("log_digest", sa.Text, nullable=True),
    # The fence: every lease adds one, and only the present attempt may say anything about the run.
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),  # attempts that ended without a word
    sa.Column("failures", sa.Integer, nullable=False),  # attempts whose notebook failed, for the retries
    sa.Column("reserved", sa.Boolean, nullable=False),
    sa.Column("runner_id", sa.Text, nullable=True),
    sa.Column("lease_expires", UtcDateTime, nullable=True),
    sa.Column("not_before", UtcDateTime, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("cell", sa.Integer, nullable=False),
    sa.Column("cells", sa.Integer, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("started", UtcDateTime, nullable=True),
    sa.Column("finished", UtcDateTime, nullable=True),
    sa.Column("cpu_seconds", sa.Float, nullable=True),
    sa.Column("peak_memory_bytes", sa.BigInteger, nullable=True),
    sa.Column("cost", sa.Float, nullable=False),
    sa.Column("mlflow_run_id", sa.Text, nullable=True),
    sa.Column("mlflow_experiment_id", sa.Text, nullable=True),
    sa.Index("uq_runs_job_id_slot", "job_id", "slot", unique=True),
    sa.Index("uq_runs_job_id_number", "job_id", "number", unique=True),
    sa.Index("ix_runs_owner_id", "owner", "id"),
    sa.Index("ix_runs_state", "state"),
)

# What a run that is not over has shown so far; position -1 is the notebook without outputs. Emptied at the commit.
run_outputs = sa.Table(
    "run_outputs",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("content", sa.Text, nullable=False),
)

runners = sa.Table(
    "runners",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("launch_id", sa.Text, nullable=True),
    sa.Column("started", UtcDateTime, nullable=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
)
