"""A running store for the tests, and the schemas: all that a client in another language has.

PINION_SERVER   the pinion binary; a store of it is started for the tests.
PINION_CONNECT  or the address of a store that runs already, which must be empty.
PINION_SCHEMAS  the folder of the .capnp files.
"""

import asyncio
import os
import pathlib
import signal
import subprocess

import capnp
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = pathlib.Path(os.environ.get("PINION_SCHEMAS", ROOT / "capnp" / "schema"))
READY_SECONDS = 30

capnp.remove_import_hook()
IMPORTS = [str(SCHEMAS / "include")]
PINION = capnp.load(str(SCHEMAS / "pinion.capnp"), imports=IMPORTS)


def ready_address(line):
    """The first address of the line that a server prints when it serves."""
    fields = dict(field.split("=", 1) for field in line.split()[1:])
    return fields["listen"].split(",")[0]


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """HOST:PORT of a running store."""
    if "PINION_CONNECT" in os.environ:
        yield os.environ["PINION_CONNECT"]
        return
    directory = tmp_path_factory.mktemp("store")
    command = [os.environ["PINION_SERVER"], "server", "--data-dir", str(directory / "data")]
    command += ["--listen", "127.0.0.1:0", "--cores", "1", "--cpus", "none"]
    log = open(directory / "log", "w+")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        if not line.startswith("ready "):
            log.seek(0)
            pytest.fail(f"the server did not start: {line!r}\n{log.read()}")
        yield ready_address(line)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=READY_SECONDS) == 0
    finally:
        server.kill()
        log.close()


class Store:
    """A connection: the bootstrap object and the capabilities that it hands out."""

    def __init__(self, pinion):
        self.pinion = pinion
        self.raw = pinion.raw().raw
        self.admin = pinion.admin().admin


@pytest.fixture
def run(address):
    """Runs a coroutine function with a new connection."""

    def runner(test):
        async def connected():
            host, port = address.rsplit(":", 1)
            stream = await capnp.AsyncIoStream.create_connection(host=host, port=int(port))
            client = capnp.TwoPartyClient(stream)
            store = Store(client.bootstrap().cast_as(PINION.Pinion))
            await asyncio.wait_for(test(store), timeout=60)

        asyncio.run(capnp.run(connected()))

    return runner
