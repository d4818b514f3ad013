"""Thirty people on the page at once, without their browsers: clients that speak Streamlit's own websocket protocol.

The real app is served twice, with the settings of .streamlit/config.toml and with Streamlit's own defaults, and
loaded in turn. Every client switches "Large type" over and over and thinks for no moment; one rerun is from the
switch to the end of the script. What the browser does with what it gets is not in these numbers.
"""

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from report import ROOT, Row, spread
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

CLIENTS = 30
START_SECONDS = 60.0
"""A server that does not answer after this never will, nor will a page that has not come."""

SETTINGS = {
    "with our settings": (),
    "with Streamlit's defaults": ("--runner.postScriptGC", "true", "--server.fileWatcherType", "auto"),
}
"""How the two servers differ: .streamlit/config.toml as it is, or without what decides the page's speed."""


@contextmanager
def running_app(*options: str) -> Iterator[int]:
    """Serve app.py on a free local port and give the port. Raises RuntimeError if the server does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), *options]
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_health(server, port)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_health(server: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


class Client:
    """One tab: its websocket, the id of its switch, and the messages that it need not be sent again."""

    def __init__(self, line: object) -> None:
        self._line = line
        self._switch = ""
        self._is_large = False
        self._kept: set[str] = set()

    async def load(self) -> None:
        """The first visit, to the end of the gallery program's own run. Raises RuntimeError if the page fails."""
        while await self._rerun():
            # A run goes on; the browser would ask again after so long.
            await asyncio.sleep(0.25)
        if not self._switch:
            raise RuntimeError("the page has no switch for large type")

    async def switch(self) -> float:
        """Press the switch; milliseconds until the script has ended."""
        self._is_large = not self._is_large
        began = time.perf_counter()
        await self._rerun()
        return 1000 * (time.perf_counter() - began)

    async def _rerun(self) -> bool:
        """One run of the script; whether the page then asked to be run again."""
        wish = BackMsg()
        wish.rerun_script.query_string = ""
        wish.rerun_script.cached_message_hashes.extend(self._kept)
        if self._switch:
            state = wish.rerun_script.widget_states.widgets.add()
            state.id, state.bool_value = self._switch, self._is_large
        await self._line.send(wish.SerializeToString())
        asks_again = False
        while True:
            said = ForwardMsg.FromString(await asyncio.wait_for(self._line.recv(), START_SECONDS))
            kind = said.WhichOneof("type")
            if said.hash and said.metadata.cacheable:
                self._kept.add(said.hash)
            if kind == "delta" and said.delta.new_element.checkbox.label == "Large type":
                self._switch = said.delta.new_element.checkbox.id
            elif kind == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
                raise RuntimeError(f"the page failed: {said.delta.new_element.exception.message}")
            elif kind == "auto_rerun":
                asks_again = True
            elif kind == "script_finished":
                if said.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return asks_again
                asks_again = False


async def _load_server(port: int, seconds: float) -> tuple[float, list[float], float]:
    """Seconds until all clients have their first page; milliseconds of every rerun; over how many seconds."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    async with contextlib.AsyncExitStack() as lines:
        began = time.perf_counter()

        async def visit() -> Client:
            options = {"subprotocols": ["streamlit"], "max_size": None, "open_timeout": START_SECONDS}
            client = Client(await lines.enter_async_context(connect(address, **options)))
            await client.load()
            return client

        clients = await asyncio.gather(*(visit() for _ in range(CLIENTS)))
        loaded = time.perf_counter() - began
        began = time.perf_counter()

        async def press(client: Client) -> list[float]:
            taken = []
            while time.perf_counter() < began + seconds:
                taken.append(await client.switch())
            return taken

        taken = [time_ for times in await asyncio.gather(*map(press, clients)) for time_ in times]
        return loaded, taken, time.perf_counter() - began


def measure_clients(names: Sequence[str], rounds: int, seconds: float) -> Iterator[Row]:
    """The servers of SETTINGS under the same load, in turn, in ``rounds`` of so many ``seconds`` each."""
    found: dict[str, list[tuple[float, list[float], float]]] = {name: [] for name in names}
    with ExitStack() as servers:
        ports = {name: servers.enter_context(running_app(*SETTINGS[name])) for name in names}
        for port in ports.values():
            # One visit, so that torch is loaded and what is kept for all visitors is there.
            asyncio.run(_visit_once(port))
        for _ in range(rounds):
            for name, port in ports.items():
                found[name].append(asyncio.run(_load_server(port, seconds)))
    for name, loads in found.items():
        rates = [len(taken) / over for _, taken, over in loads]
        taken = [time_ for _, times, _ in loads for time_ in times]
        yield Row(f"page, {CLIENTS} clients, {name}: reruns", statistics.mean(rates), "per s", note=_each(rates))
        yield Row(f"page, {CLIENTS} clients, {name}: median", statistics.median(taken), "ms", note=spread(taken))
        first = [loaded for loaded, _, _ in loads]
        yield Row(f"page, {CLIENTS} first visits, {name}", statistics.mean(first), "s", note=_each(first))


def _each(values: list[float]) -> str:
    return "rounds: " + ", ".join(f"{value:.3g}" for value in values)


async def _visit_once(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as line:
        await Client(line).load()
