"""inventory/staging works as it is shipped: its two bots, its accounts, its venue by an address."""

from __future__ import annotations

from typing import Any

import pytest

from hosttest import Bot, Venue, eventually, ready

ACCOUNTS = {"reversion": "REVERSION", "trend": "TREND"}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_bot_has_reconciled_with_its_account(host: Any, name: str) -> None:
    bot = Bot(host, name)
    ready(bot)
    doctor = bot.host.run(f"watchkeeper doctor --bot {name}")
    assert doctor.rc == 0, doctor.stdout
    assert ACCOUNTS[name] in doctor.stdout


@pytest.mark.parametrize("name", ACCOUNTS)
def test_the_venue_is_found_by_its_address_alone(host: Any, name: str) -> None:
    bot = Bot(host, name)
    gateway = bot.sh("ip -4 route show default").split()[2]
    assert f'address = "{gateway}:443"' in bot.sh(f"cat /etc/watchkeeper/{name}/bot.toml")
    assert "binance" not in bot.sh("cat /etc/hosts")


def test_a_position_gets_its_stop(host: Any, venue: Venue) -> None:
    """Its strategies may wait for hours; a position of another hand does not."""
    bot = Bot(host, "reversion")
    ready(bot)
    order = {"symbol": "ETHUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.1"}
    venue.call("POST", "/hand/REVERSION/order", order)
    (stop,) = eventually(
        lambda: [s for s in venue.stops("REVERSION") if s["symbol"] == "ETHUSDT"], "its stop"
    )
    assert (stop["side"], stop["reduceOnly"]) == ("SELL", True)


def test_the_hosts_settings_are_those_of_the_inventory(host: Any) -> None:
    bot = Bot(host, "trend")
    shown = bot.sh(f"systemctl show -p MemoryMax,MemoryHigh {bot.unit}").split()
    assert sorted(shown) == [f"MemoryHigh={900 << 20}", f"MemoryMax={1 << 30}"]
    window = bot.sh("apt-config dump Unattended-Upgrade::Automatic-Reboot-Time")
    assert '"04:30"' in window
