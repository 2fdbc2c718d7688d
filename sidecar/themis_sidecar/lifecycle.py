"""From start to stop: bind, load, serve, and on a signal drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from themis_sidecar.http.port import HttpPort
from themis_sidecar.logs import Logger, loop_error_handler
from themis_sidecar.ready import ReadyFile
from themis_sidecar.server import Server
from themis_sidecar.versions.residents import Residents
from themis_sidecar.versions.supply import Supply
from themis_sidecar.watchdog import Watchdog

ExitProcess = Callable[[int], None]


class Lifecycle:
    """One run of the server. `exit_process` must end the process without waiting for threads (os._exit)."""

    def __init__(
        self,
        supply: Supply,
        residents: Residents,
        server: Server,
        ready_file: ReadyFile,
        exit_process: ExitProcess,
        logger: Logger,
        http: HttpPort | None,
    ) -> None:
        self._supply = supply
        self._residents = residents
        self._http = http
        self._server = server
        self._ready_file = ready_file
        self._exit_process = exit_process
        self._logger = logger
        self._watchdog = Watchdog(lambda: supply.failure, self._fail, exit_process, logger)
        self._signalled = asyncio.Event()
        self._left_loading = False  # a load can't be stopped, and the interpreter would wait for its thread

    async def run(self) -> None:
        """Returns when the server has drained after SIGTERM or SIGINT; a second one ends the process at once."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(loop_error_handler(self._logger))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._ready_file.remove()
        try:
            address = await self._server.start()
            await self._start_http()
            if await self._loaded(address):
                await self._serve_until_told(address)
        finally:
            await self._server.stop()
            if self._http is not None:
                await self._http.stop()
        if self._left_loading:
            self._exit_process(0)

    async def _start_http(self) -> None:
        """Before anything is loaded, so that a load can be watched."""
        if self._http is not None:
            self._logger.info("http", address=await self._http.start())

    async def _loaded(self, address: str) -> bool:
        """False where a signal came first: a load can't be stopped, so the process ends without it."""
        self._logger.info("loading", address=address)
        loading = asyncio.create_task(self._supply.load())
        signalled = asyncio.create_task(self._signalled.wait())
        await asyncio.wait((loading, signalled), return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        if loading.done():
            loading.result()
            return True
        loading.cancel()
        self._logger.info("stopped", phase="loading")
        self._exit_process(0)
        return False

    async def _serve_until_told(self, address: str) -> None:
        watching = asyncio.create_task(self._watchdog.run())
        signalled = asyncio.create_task(self._signalled.wait())
        await self._server.serve()
        current = self._residents.current
        self._logger.info("serving", address=address, version=None if current is None else current.id)
        self._ready_file.write(address)
        await asyncio.wait((signalled, watching), return_when=asyncio.FIRST_COMPLETED)
        self._ready_file.remove()
        if watching.done():
            watching.result()
        else:
            await self._drain()
        for task in (watching, signalled):
            task.cancel()

    async def _fail(self, reason: str) -> None:
        self._ready_file.remove()  # now: the process ends without coming back here
        await self._server.fail(reason)

    async def _drain(self) -> None:
        self._logger.info("draining")
        finished = await self._server.drain()
        self._left_loading = not await self._supply.unload()
        self._logger.info("stopped", phase="serving", calls_cut_off=not finished)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signalled.is_set():
            self._logger.warning("stopped", phase="draining", signal=number.name)
            self._exit_process(128 + number)
        self._signalled.set()
