"""The command line: its help, and errors that name the option."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

from watchkeeper.paper.command import main, parser

BASE = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]


def test_the_help_names_every_option_and_the_host_names() -> None:
    text = parser().format_help()
    for option in ("--listen", "--admin", "--state", "--accounts", "--bars", "--walk", "--speed"):
        assert option in text
    assert "fapi.binance.com" in text
    assert "exit codes" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--listen", "nowhere"], "--listen: 'nowhere' is not HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999' is not HOST:PORT"),
        ([*BASE, "--state", "x", "--speed", "fast"], "--speed: 'fast' is not a number"),
        ([*BASE, "--state", "x", "--speed", "0"], "--speed: 0 is not between"),
        ([*BASE, "--state", "x", "--latency-ms", "-1"], "--latency-ms: "),
        ([*BASE, "--state", "x", "--walk", "1", "--bars", "b"], "--bars: not allowed with"),
        ([*BASE], "--state"),
    ],
)
def test_an_option_that_cannot_be_read(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert error in capsys.readouterr().err


def test_a_file_of_bars_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*BASE, "--state", str(tmp_path), "--bars", str(tmp_path / "none.csv.gz")])
    assert code == 2
    assert "--bars: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("accounts = 3", "accounts"),
        ('[[accounts]]\nalias = "A"\n', "api_key"),
        ('[[accounts]]\nalias="A"\napi_key="k"\napi_secret="s"\nbalanse="1"\n', "balanse"),
        ('[[accounts]]\nalias="A"\napi_key=""\napi_secret="s"\n', "must not be empty"),
        ("[[accounts", "--accounts"),
    ],
)
def test_an_accounts_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, error: str
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(text)
    code = main([*BASE, "--state", str(tmp_path / "state"), "--accounts", str(file)])
    written = capsys.readouterr().err
    assert code == 2
    assert "--accounts" in written
    assert error in written


def test_a_state_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*BASE, "--state", str(tmp_path / "file")]) == 2
    assert "--state: " in capsys.readouterr().err


def test_without_tls_for_those_who_ask_for_it(tmp_path: Path) -> None:
    """The same venue, account and streams; without the option nothing answers but TLS."""
    with PaperVenue(tmp_path, options=("--plain", "127.0.0.1:0")) as venue:
        ready = json.loads((tmp_path / "ready.json").read_text())
        [where] = ready["plain"]
        assert where not in ready["listen"]
        connection = http.client.HTTPConnection(where, timeout=10)
        connection.request("GET", "/fapi/v1/ticker/price?symbol=BTCUSDT")
        told = json.loads(connection.getresponse().read())
        connection.close()
        client = RawClient(venue)
        assert told == client.send("GET", "/fapi/v1/ticker/price", "symbol=BTCUSDT").body
        client.close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "watchkeeper.paper.command", "--listen", address),
                *("--admin", "127.0.0.1:0", "--state", str(tmp_path)),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert f"--listen {address}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_accounts_are_opened_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(
        '[[accounts]]\nalias="FILED"\napi_key="key-FILED"\napi_secret="secret-FILED"\n'
        'balance="1234.5"\npermissions = { withdrawals = true }\n'
    )
    options = ("--accounts", str(file), "--latency-ms", "50")
    with PaperVenue(tmp_path, account=None, options=options) as venue:
        client = RawClient(venue, "FILED")
        client.send("GET", "/fapi/v1/ping")  # connects
        started = time.monotonic()
        [balance] = client.signed("GET", "/fapi/v3/balance").body
        assert time.monotonic() - started >= 0.05
        client.close()
    assert (balance["accountAlias"], balance["balance"]) == ("FILED", "1234.50000000")
    assert venue.log() == ""
