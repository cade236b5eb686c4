"""What deploy/ installs: each file parses, and names commands, options and paths that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from speckfarm_server import config
from speckfarm_server.__main__ import make_parser
from tests.farm_process import FarmProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SERVICES = ("speckfarm.service", "speckfarm-backup.service")
UNITS = (*SERVICES, "speckfarm-backup.timer")
COMMAND = "/opt/speckfarm/bin/speckfarm-server"
# Where the how-to, the image and the units put things.
DATA, CONFIG, BACKUPS = "/var/lib/speckfarm", "/etc/speckfarm/farm.toml", "/var/backups/speckfarm"


# farm.toml


def test_the_example_configuration_is_the_defaults() -> None:
    assert config.load(DEPLOY / "farm.toml") == config.FarmConfig()


def test_the_example_configuration_has_every_key_with_a_comment_before_it() -> None:
    text = (DEPLOY / "farm.toml").read_text()
    written = tomllib.loads(text)
    sections = (
        (config.FarmConfig, written),
        (config.TlsConfig, written["tls"]),
        (config.LimitsConfig, written["limits"]),
        (config.UsbConfig, written["usb"]),
        *((config.BoardConfig, board) for board in written["boards"]),
    )
    first = {match[2]: match[1] for match in reversed([*re.finditer(r"(.*)\n(\w+) =", text)])}

    for section, found in sections:
        assert {field.name for field in fields(section)} == set(found)
    assert [key for key, before in first.items() if not before.startswith("# ")] == []


def test_keys_with_a_unit_say_it_in_their_comment() -> None:
    lines = (DEPLOY / "farm.toml").read_text().splitlines()
    units = {"_s": " in s", "_bytes": " in bytes"}

    for number, line in enumerate(lines):
        for suffix, unit in units.items():
            if line.partition(" =")[0].endswith(suffix):
                assert unit in lines[number - 1], line


def test_a_server_starts_with_the_example_configuration(
    make_server: Callable[..., FarmProcess],
) -> None:
    server = make_server((DEPLOY / "farm.toml").read_text())

    with server.connect() as farm:
        assert [board.board for board in farm.boards()] == ["twin-0", "twin-1"]


# systemd


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="], strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((DEPLOY / name).read_text())
    return parser


@pytest.mark.parametrize("name", SERVICES)
def test_services_run_a_command_that_exists_with_the_paths_of_the_guide(name: str) -> None:
    service = unit(name)["Service"]
    command, *arguments = shlex.split(service["ExecStart"])

    options = make_parser().parse_args(arguments)

    assert command == COMMAND
    assert (options.config, options.data) == (Path(CONFIG), DATA)
    assert service["User"] == service["Group"] == "speckfarm"
    assert "EnvironmentFile" not in service


def test_the_backup_may_write_where_it_is_told_to() -> None:
    service = unit("speckfarm-backup.service")["Service"]
    options = make_parser().parse_args(shlex.split(service["ExecStart"])[1:])

    assert str(options.to) == BACKUPS
    assert service["ReadWritePaths"].split() == [DATA, BACKUPS]


def test_the_server_may_use_usb_and_what_the_twins_compile() -> None:
    service = unit("speckfarm.service")["Service"]

    assert service["DeviceAllow"] == "char-usb_device rw"
    assert "PrivateDevices" not in service  # it would hide the boards
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]  # libusb's hotplug
    assert "MemoryDenyWriteExecute" not in service  # it would stop numba
    assert service["StateDirectory"] == Path(DATA).name


def test_the_timer_starts_the_backup() -> None:
    timer = unit("speckfarm-backup.timer")

    assert (DEPLOY / "speckfarm-backup.service").is_file()
    assert "Unit" not in timer["Timer"]  # so it is the service of the same name
    assert timer["Install"]["WantedBy"] == "timers.target"


# udev

KEY = r'(SUBSYSTEM|ENV\{\w+\}|ATTR\{\w+\}|GROUP|MODE)(==|=)"[^"]*"'


def test_the_udev_rules_are_inert_until_somebody_fills_in_the_ids() -> None:
    lines = (DEPLOY / "70-speckfarm.rules").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_udev_rule_is_one_once_the_ids_are_filled_in() -> None:
    (template,) = re.findall(
        r"^# (SUBSYSTEM.*)$", (DEPLOY / "70-speckfarm.rules").read_text(), re.MULTILINE
    )
    rule = template.replace("vvvv", "0abc").replace("pppp", "0def")

    assert re.fullmatch(rf"{KEY}(, {KEY})*", rule)
    assert 'ATTR{idVendor}=="0abc"' in rule
    assert 'ATTR{idProduct}=="0def"' in rule
    assert f'GROUP="{unit("speckfarm.service")["Service"]["Group"]}"' in rule


# Container


def instructions() -> list[dict[str, str]]:
    parser = DockerfileParser(path=str(DEPLOY / "Dockerfile"))
    return [step for step in parser.structure if step["instruction"] != "COMMENT"]


def values(instruction: str) -> list[str]:
    return [step["value"] for step in instructions() if step["instruction"] == instruction]


def test_the_dockerfile_passes_its_linter() -> None:
    linter = Path(sys.executable).parent / "hadolint"

    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_dockerfile_copies_what_is_there() -> None:
    copied = [value.split()[:-1] for value in values("COPY") if not value.startswith("--from")]

    assert copied
    assert [path for paths in copied for path in paths if not (ROOT / path).exists()] == []


def test_the_dockerfile_copies_all_that_the_build_reads() -> None:
    copied = {path for value in values("COPY") for path in value.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    needed = {"pyproject.toml", "protos", project["project"]["readme"], "hatch_build.py", "client",
              "server", "tools/generate_protos.py", "deploy/constraints.txt"}  # fmt: skip
    assert needed <= copied


def test_the_image_runs_a_command_that_exists_as_a_user_of_its_own() -> None:
    (entry,) = json.loads(values("ENTRYPOINT")[0])
    command = json.loads(values("CMD")[0])

    options = make_parser().parse_args(command)

    assert entry == "speckfarm-server"
    assert entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert (options.config, options.data) == (Path(CONFIG), DATA)
    assert options.listen.rpartition(":")[2] == values("EXPOSE")[0]
    assert values("USER") == ["990:990"]


def test_the_health_check_of_the_image_finds_a_server_and_misses_none(
    server: FarmProcess,
) -> None:
    (check,) = values("HEALTHCHECK")
    _, *code = json.loads(check.partition("CMD ")[2])

    def run(port: str) -> int:
        command = [sys.executable, *(part.replace("50051", port) for part in code)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert run(server.address.rpartition(":")[2]) == 0
    assert run("1") != 0


def compose() -> dict[str, Any]:
    plain = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(plain, dict)
    return plain


def test_the_compose_file_builds_and_mounts_what_is_there() -> None:
    plain = compose()
    build = plain["services"]["farm"]["build"]
    volumes = [v.split(":") for each in plain["services"].values() for v in each["volumes"]]

    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    for source, *_ in volumes:
        is_file = source.startswith(".")
        assert (DEPLOY / source).is_file() if is_file else source in plain["volumes"]
    assert {target for _, target, *_ in volumes} <= {
        CONFIG, *json.loads(values("VOLUME")[0])
    }  # fmt: skip


def test_the_compose_files_commands_exist() -> None:
    plain = compose()["services"]
    options = make_parser().parse_args(plain["backup"]["command"])

    assert (options.config, options.data) == (Path(CONFIG), DATA)
    assert options.to == Path(BACKUPS)
    assert plain["farm"]["ports"] == [f"{values('EXPOSE')[0]}:{values('EXPOSE')[0]}"]
    assert "command" not in plain["farm"]  # the image's
    assert all(each["image"] == "speckfarm" for each in plain.values())


# constraints.txt


def pins() -> dict[str, str]:
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_everything_that_the_server_needs_is_pinned_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    needed = {normalised(text) for text in direct if "python_version" not in text}
    found = set[str]()
    while new := needed - found:  # what they need in turn, as installed here
        found |= new
        for name in new:
            # Those without a marker; others are for extras, or other systems and Pythons.
            requires = metadata.requires(name) or []
            needed |= {normalised(text) for text in requires if ";" not in text}

    assert sorted(found - set(pins())) == []
    assert [v for v in pins().values() if not re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", v)] == []


def test_the_pins_are_in_the_ranges_that_the_project_allows() -> None:
    from speckfarm_server.doctor.software import REQUIREMENTS, judge_packages

    found: dict[str, str | None] = {each.name: pins().get(each.name) for each in REQUIREMENTS}

    assert [line.state for line in judge_packages(found, (3, 12))] == ["ok"]


def normalised(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


# The guide


def test_the_guide_names_every_file_of_the_folder() -> None:
    text = (ROOT / "docs" / "how-to" / "install-in-a-lab.md").read_text()

    assert [each.name for each in DEPLOY.iterdir() if f"{each.name}" not in text] == []


def test_the_commands_of_the_guide_exist() -> None:
    text = (ROOT / "docs" / "how-to" / "install-in-a-lab.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    commands = re.findall(rf"{COMMAND} (.*)$", joined, re.MULTILINE)

    assert len(commands) > 5
    for command in commands:
        make_parser().parse_args(shlex.split(command, comments=True))
