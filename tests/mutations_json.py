"""Mutations of JSON model files, as trees and as text."""

from __future__ import annotations

import json
import random
from typing import Any


def damage_text(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.choice((b"[" * 5000, b'{"a":' * 5000, b"\xff", b"1e999"))
        case 2:
            return data[:at] + rng.choice((b"NaN", b"-", b'"', b",", b"\\ud800")) + data[at + 1 :]
        case 3:
            return data.replace(b":1", rng.choice((b":99999999999999999999", b":-1", b":1.5")), 3)
        case _:
            return data.replace(b"true", rng.choice((b"1", b"null", b'"true"', b"2")), 2)


def mutate_json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    tree = json.loads(data)
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder = _any_holder(tree, rng)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            continue
        key = rng.choice(keys)
        done.append(f"{key}")
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}s"] = holder[key]
            case 2:
                holder[key] = rng.choice((None, True, "1", {}, [], [[[]]], {"value0": 1}, 1.5))
            case 3 if isinstance(holder, list):
                holder += holder[: rng.randrange(1, 9)]
            case _:
                holder[key] = rng.choice((
                    0, 1, -1, 2, 8, 12, 15, 127, 128, 129, 255, 256, 1023, 1024, 32767, 32768,
                    -32769, 2**31, 2**64, 10**30,
                ))  # fmt: skip
    return json.dumps(tree).encode(), "json: " + ", ".join(done)


def _any_holder(tree: Any, rng: random.Random) -> Any:
    holder = tree
    while True:
        inside = list(holder.values()) if isinstance(holder, dict) else holder[:50]
        deeper = [item for item in inside if isinstance(item, (dict, list)) and item]
        if not deeper or rng.random() < 0.15:
            return holder
        holder = rng.choice(deeper)
