"""Every error of a command is a message with a way out and exit code 1, wrong usage exit code 2; never a trace."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError
from click.testing import CliRunner

from sluice import cli
from sluice.aws.sessions import LOG_IN
from sluice.core import commands
from sluice.errors import SluiceError

MISSING = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "T: x"}}, "Query")
INVALID = ClientError({"Error": {"Code": "ValidationException", "Message": "not so"}}, "Query")
NO_FILE = FileNotFoundError(errno.ENOENT, "No such file", "a.csv")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setitem(cli.main.commands, "fails", fails)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SluiceError("the queue is away: run `sluice deploy`"), "the queue is away: run `sluice deploy`"),
        (
            MISSING,
            "A resource of sluice-dev that this command needs does not exist (Query: T: x). Run `sluice deploy`.",
        ),
        (INVALID, "AWS refused a request (Query: not so)."),
        (NoCredentialsError(), f"AWS does not accept the credentials: Unable to locate credentials. {LOG_IN}"),
        (NO_FILE, "a.csv: No such file"),
        (PermissionError("closed"), "closed"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_1(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "program", lambda: "sluice")
    fail_with(monkeypatch, error)
    done = CliRunner().invoke(cli.main, ["fails"])
    assert (done.exit_code, done.output) == (1, f"Error: {said}\n")


def test_an_unavailable_aws_is_named_with_the_command_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"))
    assert "sluice aws start`." in CliRunner().invoke(cli.main, ["fails"]).output


def test_a_fault_of_the_program_says_how_to_see_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division by zero"))
    done = CliRunner().invoke(cli.main, ["fails"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: ZeroDivisionError: division by zero.")
    assert len(done.output.splitlines()) == 1
    assert isinstance(CliRunner().invoke(cli.main, ["--traceback", "fails"]).exception, ZeroDivisionError)


def test_ctrl_c_ends_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    done = CliRunner().invoke(cli.main, ["fails"])
    assert (done.exit_code, done.output.strip()) == (1, "Aborted!")


def test_a_closed_standard_output_ends_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        "from sluice import cli; import click\n@cli.main.command()\ndef many():\n  while 1: click.echo('x' * 999)\n"
    )
    code = program + "cli.main(['many'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["stand-in", "--port", "99999"],
        ["stand-in", "--error-share", "7"],
        ["produce", "events", "--rate", "-1"],
        ["produce", "events", "--error-share", "7"],
        ["produce", "partners", "--overlap", "2"],
        ["produce", "modules", "--weeks", "0"],
        ["events", "read", "--hour", "yesterday"],
        ["modules", "show", "--limit", "0"],
        ["partners", "block", " "],
    ],
)
def test_wrong_usage_is_exit_code_2_and_needs_no_aws(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert "Error: " in done.output


@pytest.mark.parametrize(
    ("command", "way_out"),
    [(["up"], "stop its process, or set SLUICE_WEB_PORT"), (["stand-in", "--port", "{port}"], "give another one with")],
    ids=["up", "stand-in"],
)
def test_a_taken_port_is_one_sentence_with_a_way_out(command: list[str], way_out: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "sluice", *(part.format(port=port) for part in command)],
            env=os.environ | {"SLUICE_HOME": str(tmp_path / "home"), "SLUICE_WEB_PORT": port},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: port {port} of the ")
    assert way_out in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_setting_is_one_warning_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_LAKE_BUKET", "x")
    monkeypatch.setattr(cli.main, "elsewhere", {})
    fail_with(monkeypatch, SluiceError("as before"))
    done = CliRunner().invoke(cli.main, ["fails"])
    assert done.stderr.count("Warning: ") == 1
    assert "the nearest name is SLUICE_LAKE_BUCKET" in done.stderr
    assert done.stdout == ""


def test_the_version_is_that_of_the_package() -> None:
    done = CliRunner().invoke(cli.main, ["--version"])
    assert (done.exit_code, done.output) == (0, f"sluice {version('sluice')}\n")


def test_a_printed_command_can_be_pasted_where_the_first_was_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "sluice"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.delenv("UV", raising=False)
    assert commands.pasted("run `sluice deploy`") == "run `sluice deploy`"
    monkeypatch.setenv("PATH", "/nowhere")
    assert commands.pasted("run `sluice deploy`") == "run `bin/sluice deploy`"
    monkeypatch.chdir(tmp_path / "bin")
    assert commands.pasted("`sluice aws start` or sluice") == f"`{program} aws start` or sluice"


def commands_of(group: click.Group, *path: str) -> list[tuple[str, click.Command]]:
    found = []
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found.append((" ".join((*path, name)), command))
            if isinstance(command, click.Group):
                found += commands_of(command, *path, name)
    return found


def test_every_command_and_option_has_a_help_text() -> None:
    for name, command in commands_of(cli.main):
        assert command.help, name
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{name} {option.name}"
