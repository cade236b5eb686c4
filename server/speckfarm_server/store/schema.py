"""The tables. Times are int64 microseconds since the epoch; JSON is text; digests are hex."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

METADATA = MetaData()

USERS = Table(
    "users",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the token
    Column("user", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

MODELS = Table(
    "models",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("user", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("input_shape", Text, nullable=False),  # JSON [c, h, w] or []
    Column("layers", Integer, nullable=False),
    Column("deleted_us", BigInteger),
)

RECORDINGS = Table(
    "recordings",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("user", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("count", Integer, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("labelled", Boolean, nullable=False),
    Column("deleted_us", BigInteger),
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # fencing number
    Column("faults", Integer, nullable=False),
    Column("model", String(64), nullable=False),
    Column("recordings", Text, nullable=False),  # JSON [digest]
    Column("settings", Text, nullable=False),  # Settings.canonical
    Column("chip", String(16), nullable=False),
    Column("board_kind", String(16), nullable=False),
    Column("board_pin", String(64), nullable=False),
    Column("board", String(64), nullable=False),
    Column("configuration", String(64), nullable=False),
    Column("keep_lags", Boolean, nullable=False),
    Column("benchmark", String(32), nullable=False),
    Column("point", Integer, nullable=False),
    Column("recordings_total", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("queue_deadline_us", BigInteger, nullable=False),
    Column("run_timeout_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("error", Text),  # JSON
    Column("findings", Text, nullable=False),  # JSON, warnings of the check
    Index("jobs_by_state", "state"),
    Index("jobs_by_time", "created_us", "id"),
    Index("jobs_by_benchmark", "benchmark", "point"),
)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("user", String(64), nullable=False),
    Column("method", String(32), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("body", String(64), nullable=False),  # SHA-256 of the request
    Column("object", String(32), nullable=False),  # what the first call made
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("user", "method", "request_id"),
)

# Append-only. Rows of a job with a sequence are what WatchJob replays; all rows are the usage log.
EVENTS = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time_us", BigInteger, nullable=False),
    Column("event", String(32), nullable=False),
    Column("user", String(64), nullable=False),
    Column("job", String(32), nullable=False),
    Column("sequence", Integer, nullable=False),  # 0: not a step of a job
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("board", String(64), nullable=False),
    Column("board_kind", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("board_us", BigInteger, nullable=False),  # lease granted to released
    Index("events_by_job", "job", "sequence"),
    Index("events_by_time", "time_us"),
    sqlite_autoincrement=True,
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("job", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("board", String(64), nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),  # a job state
    Column("error", Text),  # JSON
    Column("timings", Text),  # JSON, milliseconds of each stage
    PrimaryKeyConstraint("job", "attempt"),
)

RESULTS = Table(
    "results",
    METADATA,
    Column("job", String(32), primary_key=True),
    Column("body", Text, nullable=False),  # job_result.to_json
)

# One row for each recording and monitored layer, and one with recording -1 for the exit layer of
# the whole job; lab-wide percentiles merge the latter.
LATENCIES = Table(
    "latencies",
    METADATA,
    Column("job", String(32), nullable=False),
    Column("recording", Integer, nullable=False),
    Column("layer", Integer, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("board", String(64), nullable=False),
    Column("board_kind", String(16), nullable=False),
    Column("model", String(64), nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("uncaused", BigInteger, nullable=False),
    Column("method", String(16), nullable=False),
    Column("error_us", Float),
    Column("drain_us", Float),
    Column("histogram", LargeBinary, nullable=False),
    PrimaryKeyConstraint("job", "recording", "layer"),
    Index("latencies_by_time", "recording", "time_us"),
)

BENCHMARKS = Table(
    "benchmarks",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("user", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # JSON: models, recordings, settings, axes, chip, kind
    Column("points", Integer, nullable=False),
)

BOARDS = Table(
    "boards",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("enabled", Boolean, nullable=False),
)

# The devkit that was accepted as a real board last.
BOARD_DEVICES = Table(
    "board_devices",
    METADATA,
    Column("id", String(64), primary_key=True),  # of the board
    Column("type", String(64), nullable=False),
    Column("serial", String(64), nullable=False),
    Column("logic_version", BigInteger, nullable=False),
    Column("usb_path", String(64), nullable=False),
    Column("usb_address", Integer, nullable=False),
    Column("disowned_proof", String(64), nullable=False),  # SHA-256 of another devkit's proof
)

# Results' small blobs, so that they are durable with their transaction; large ones are files.
SMALL_BLOBS = Table(
    "small_blobs",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
