"""Runs `buf breaking` against the last released contract, or the main branch before a release."""

import subprocess
import sys
from pathlib import Path

BUF = str(Path(sys.executable).parent / "buf")


def main() -> int:
    """Compare the protos with the branch or tag that holds the contract users have."""
    tags = _git("tag", "--list", "v*", "--sort=-version:refname").split()
    against = f"tag={tags[0]}" if tags else "ref=HEAD"
    if not _git("ls-tree", "-r", "--name-only", tags[0] if tags else "HEAD", "protos"):
        print("there is no older contract to compare with")
        return 0
    print(f"buf breaking against {against}")
    target = f".git#{against},subdir=protos"
    return subprocess.run([BUF, "breaking", "protos", "--against", target], check=False).returncode


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
