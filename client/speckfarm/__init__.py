"""Thin client of speckfarm: run spiking networks on a lab's Speck boards, or on simulated ones.

>>> import speckfarm
>>> farm = speckfarm.connect()
>>> result = farm.run("model.nir", "digits.npz", decimator={0: 4}).wait()
>>> accuracy, p99_us = result.accuracy, result.latency.p99_us
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Before anything imports gRPC: its log lines say less than our own errors do.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if TYPE_CHECKING:
    from speckfarm.advice import Advice
    from speckfarm.benchmark import Benchmark
    from speckfarm.comparison import Comparison
    from speckfarm.errors import (
        AlreadyExists,
        BadRequest,
        Exhausted,
        FarmFault,
        FarmUnavailable,
        JobCancelled,
        JobEnded,
        JobExpired,
        JobFailed,
        ModelRejected,
        NotAllowed,
        NotFound,
        SpeckfarmError,
        Unauthenticated,
        WaitTimeout,
        WrongState,
    )
    from speckfarm.farm import Farm, connect
    from speckfarm.findings import Finding
    from speckfarm.job import Job, JobEvent
    from speckfarm.latency import Latency
    from speckfarm.report import Report
    from speckfarm.result import Result
    from speckfarm.variation import Variation

    __version__: str

__all__ = [
    "Advice",
    "AlreadyExists",
    "BadRequest",
    "Benchmark",
    "Comparison",
    "Exhausted",
    "Farm",
    "FarmFault",
    "FarmUnavailable",
    "Finding",
    "Job",
    "JobCancelled",
    "JobEnded",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "Latency",
    "ModelRejected",
    "NotAllowed",
    "NotFound",
    "Report",
    "Result",
    "SpeckfarmError",
    "Unauthenticated",
    "Variation",
    "WaitTimeout",
    "WrongState",
    "__version__",
    "connect",
]

# Loaded when first used (PEP 562): `import speckfarm.events` must not cost gRPC, nor need it.
_HOMES = {
    "Advice": "advice",
    "Benchmark": "benchmark",
    "Comparison": "comparison",
    "Farm": "farm",
    "Finding": "findings",
    "Job": "job",
    "JobEvent": "job",
    "Latency": "latency",
    "Report": "report",
    "Result": "result",
    "Variation": "variation",
    "connect": "farm",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("speckfarm")
    if name not in __all__:
        raise AttributeError(f"module 'speckfarm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"speckfarm.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
