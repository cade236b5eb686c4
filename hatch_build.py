"""Generates the gRPC stubs when a wheel is built or the project is installed."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs tools/generate_protos.py and adds its output, which git ignores, to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Skip the sdist: it carries the protos, not what is made of them."""
        if self.target_name == "sdist":
            return
        tool = runpy.run_path(str(Path(self.root) / "tools" / "generate_protos.py"))
        tool["generate"](Path(self.root))
        build_data["artifacts"].append("client/speckfarm/v1/*")
