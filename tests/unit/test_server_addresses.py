"""Servers' places on a data directory: who may share it, who is found."""

import json
from pathlib import Path

import pytest

from millrace.server_addresses import (
    DataDirInUse,
    ServerAddress,
    http_url,
    note_address,
    reachable_host,
    read_address,
    read_addresses,
    server_place,
)
from millrace.settings import Settings, load


def alone(folder: Path) -> Settings:
    return load({}, data_dir=folder)


def shared(folder: Path) -> Settings:
    return load({}, data_dir=folder, database_url="postgresql:///shop")


def address(number: int) -> ServerAddress:
    return ServerAddress(url=f"http://127.0.0.1:{number}", process_id=number, proxy_url="", proxy_ca="")


def test_one_server_with_its_own_state(tmp_path: Path) -> None:
    """It is found while it runs; a second one is refused, with or without a database."""
    settings = alone(tmp_path)
    with server_place(settings) as place:
        assert read_address(settings) is None
        note_address(place, address(1))
        assert read_addresses(settings) == [address(1)]
        with pytest.raises(DataDirInUse, match="a server runs on"), server_place(settings):
            pass
        with pytest.raises(DataDirInUse, match="a server with another state runs on"), server_place(shared(tmp_path)):
            pass
    assert read_address(settings) is None


def test_servers_on_one_database_share_a_data_directory(tmp_path: Path) -> None:
    """All are found; a server with a state of its own is refused as long as one of them runs."""
    settings = shared(tmp_path)
    with server_place(settings) as first:
        note_address(first, address(1))
        with server_place(settings) as second:
            note_address(second, address(2))
            assert sorted(it.process_id for it in read_addresses(settings)) == [1, 2]
            with pytest.raises(DataDirInUse, match="another state"), server_place(alone(tmp_path)):
                pass
        assert read_addresses(settings) == [address(1)]
    assert read_addresses(settings) == []
    with server_place(alone(tmp_path)):
        pass


def test_a_dead_server_s_note_is_removed(tmp_path: Path) -> None:
    """Its lock went with its process."""
    settings = shared(tmp_path)
    folder = settings.run_dir / "servers"
    folder.mkdir(parents=True)
    (folder / "1-dead.lock").touch()
    (folder / "1-dead.json").write_text(json.dumps({"url": "http://127.0.0.1:1"}))
    assert read_addresses(settings) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "reachable", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:4600"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:4600"),
        ("::", "127.0.0.1", "http://127.0.0.1:4600"),
        ("::1", "::1", "http://[::1]:4600"),
        ("shop.example.com", "shop.example.com", "http://shop.example.com:4600"),
    ],
)
def test_a_server_on_every_address_is_reached_by_the_loopback(host: str, reachable: str, url: str) -> None:
    """What agents and commands are told is a place that a program can connect to, written as URLs are."""
    assert (reachable_host(host), http_url(reachable_host(host), 4600)) == (reachable, url)
