"""Tasks per second of Huey on durable SQLite, for throughput.py: `huey_reference.py FOLDER TASKS`.

One client enqueues tasks that do nothing, two worker processes run them, and the client waits for
every result, which is stored as ours are. Needs huey and nothing of this project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from huey import SqliteHuey

FOLDER = "HUEY_REFERENCE_FOLDER"
queue = SqliteHuey(
    filename=str(Path(os.environ.get(FOLDER, sys.argv[1])) / "huey.db"), fsync=True, timeout=30
)


@queue.task()
def do_nothing() -> int:
    """A task without work; its result is stored because it is not None."""
    return 1


def main(folder: str, tasks: int) -> None:
    """Print tasks per second."""
    from huey_reference import do_nothing  # under the name by which the consumer knows it

    # The consumer polls; it is told to do so as often as it can, in Huey's favour.
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "huey_reference.queue"]
    command += ["-w", "2", "-k", "process", "-d", "0.001", "-m", "0.001", "-b", "1"]
    consumer = subprocess.Popen(
        command,
        cwd=Path(__file__).parent,
        env={**os.environ, FOLDER: folder, "PYTHONPATH": str(Path(__file__).parent)},
        stderr=subprocess.DEVNULL,
    )
    try:
        do_nothing().get(blocking=True, timeout=60)
        began = time.perf_counter()
        waiting = [do_nothing() for _ in range(tasks)]
        for result in waiting:
            result.get(blocking=True, backoff=1, max_delay=0.001, timeout=60)
        print(tasks / (time.perf_counter() - began))
    finally:
        consumer.terminate()
        consumer.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
