"""Files from the network: whole or not at all, gone on with after an interruption, compared with their checksum."""

import hashlib
import pathlib
import socket
import threading

import pytest
from served import serving

from fcam_jax.errors import InputError
from fcam_jax.runtime.download import fetch

DATA = bytes(range(256)) * 9000  # more than two of the pieces in which it comes
DIGEST = hashlib.sha256(DATA).hexdigest()[:8]


@pytest.fixture
def server():
    with serving() as found:
        found.files["/weights.pth"] = DATA
        yield found


def get(server, path: pathlib.Path, digest=DIGEST):
    fetch(f"{server.url}/weights.pth", path, digest)


def told(server, path, **given):
    with pytest.raises(InputError) as error:
        get(server, path, **given)
    return str(error.value).replace(f"{server.url}/weights.pth", "URL")


def test_a_file_comes_whole_and_once(server, tmp_path):
    path = tmp_path / "cache" / "weights.pth"
    get(server, path)
    get(server, path)
    assert path.read_bytes() == DATA and [one.name for one in path.parent.iterdir()] == [path.name]
    assert server.asked == [("/weights.pth", "")]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_gone_on_with(server, tmp_path, ranges):
    path, server.cut, server.ranges = tmp_path / "weights.pth", 1_500_000, ranges
    message = "URL: the connection ended after 1,500,000 of 2,304,000 bytes; the same call goes on from there"
    assert told(server, path) == message and not path.exists()
    server.cut = None
    get(server, path)
    assert path.read_bytes() == DATA  # also where the server sends all of it again
    assert server.asked[1] == ("/weights.pth", "bytes=1500000-" if ranges else "")


def test_another_checksum_discards_what_came(server, tmp_path):
    path = tmp_path / "weights.pth"
    (tmp_path / "weights.pth.partial").write_bytes(b"of another file")
    message = told(server, path)
    assert (
        message.startswith("URL: the file's SHA-256 begins with ") and f"and not with {DIGEST}; it is disc" in message
    )
    assert not path.exists()
    get(server, path)
    assert path.read_bytes() == DATA


def test_what_is_longer_than_the_file_is_discarded(server, tmp_path):
    (tmp_path / "weights.pth.partial").write_bytes(DATA + b"more")
    get(server, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == DATA


def test_no_file_and_no_network_are_a_line(server, tmp_path):
    path = tmp_path / "weights.pth"
    server.files.clear()
    assert told(server, path) == "URL: cannot be fetched: 404 Not Found"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        server.url = f"http://localhost:{free.getsockname()[1]}"
    message = told(server, path)
    assert message.startswith("URL: cannot be fetched: ") and "refused" in message
    assert message.endswith(f"; connect to the network, or put the file at {path}")


def test_several_at_once_fetch_it_once(server, tmp_path):
    path = tmp_path / "weights.pth"
    threads = [threading.Thread(target=get, args=(server, path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == DATA and len(server.asked) == 1
