"""The composition root of the server: the only module, beside the agent's, that knows every concrete class."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from millrace import __version__
from millrace.built_in_images import built_in_metrics
from millrace.clock import SystemClock
from millrace.containers import runnable_images
from millrace.engines.agent_maker import AgentMaker
from millrace.engines.container_starter import ContainerStarter
from millrace.engines.local import ENDPOINT_VARIABLE, LocalEngine
from millrace.errors import StoreUnavailable
from millrace.http.access_log import access_log
from millrace.http.app import ASGIApp, app
from millrace.http.server import serve
from millrace.metrics import MetricsPage, ServerMetrics, StateFigures
from millrace.ports.jobs import AgentRecord
from millrace.protocol.message import Handler, Request, Response
from millrace.retention import collectors, rules_of, run_daily
from millrace.runtimes.started import STARTER_VARIABLE
from millrace.scheduler.data_capture import DataCaptureWriter
from millrace.scheduler.job_ends import JobEnds
from millrace.scheduler.job_reports import JobReports
from millrace.scheduler.membership import Membership
from millrace.scheduler.router import StoreRouter
from millrace.scheduler.scheduler import Scheduler
from millrace.server_addresses import (
    DataDirInUse,
    ServerAddress,
    http_url,
    note_address,
    reachable_host,
    read_address,
    server_place,
)
from millrace.services import ecr, iam, logs, s3, sagemaker, sagemaker_runtime, sts
from millrace.settings import Settings, as_environment
from millrace.store.companion import check_companion
from millrace.store.database import Database
from millrace.store.filesystem import FilesystemObjects
from millrace.store.image_files import ImageFiles
from millrace.store.log_files import LogFiles
from millrace.store.opening import open_database
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_keys import SqlKeyStore
from millrace.store.sql_operation import SqlOperationStore
from millrace.store.sql_servers import SqlServerStore
from millrace.store.timed_database import TimedDatabase

__all__ = ["DataDirInUse", "Server", "ServerAddress", "read_address", "run_server"]

log = logging.getLogger(__name__)


class Server:
    """All parts of one server, put together."""

    def __init__(
        self, settings: Settings, *, database: Database | None = None, maker: AgentMaker | None = None
    ) -> None:
        """Put them together; a database or nursery that is given is used in the place of one of its own."""
        self._settings = settings
        self.clock = SystemClock()
        self.metrics = ServerMetrics()
        self.database = TimedDatabase(database or open_database(settings), self.metrics.count_write)
        self.jobs = SqlJobStore(self.database, clock=self.clock)
        self.documents = SqlDocumentStore(self.database, clock=self.clock)
        self.keys = SqlKeyStore(self.database, clock=self.clock, account=settings.account)
        self.operation = SqlOperationStore(self.database)
        self.figures = StateFigures(self.operation, clock=self.clock, registry=self.metrics.registry)
        self.objects = FilesystemObjects(settings.objects_dir, account=settings.account, clock=self.clock)
        self.logs = LogFiles(settings.logs_dir)
        self.images = runnable_images(settings)
        self.capture = DataCaptureWriter(
            self.objects,
            clock=self.clock,
            flush_seconds=settings.capture_flush_seconds,
            flush_bytes=settings.capture_flush_bytes,
            buffer_bytes=settings.capture_buffer_bytes,
        )
        self.router = StoreRouter(self.jobs, capture=self.capture)
        self._woken = asyncio.Event()
        self.ends = JobEnds(self.jobs)
        self.membership = Membership(
            servers=SqlServerStore(self.database, clock=self.clock),
            clock=self.clock,
            is_shared=self.database.is_shared,
            beat_seconds=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
        )
        self._agent_environment = {**os.environ, **as_environment(settings)}
        starter = ContainerStarter.of_server(settings.run_dir, settings.data_dir / "agents.log")
        if starter is not None:
            self._agent_environment[STARTER_VARIABLE] = str(starter.socket_path)
        self.engine = LocalEngine(
            settings.work_dir,
            settings.data_dir / "agents.log",
            self._agent_environment,
            on_exit=self._woken.set,
            maker=maker,
            starter=starter,
            is_alone=not self.database.is_shared,
        )
        self.scheduler = Scheduler(
            jobs=self.jobs,
            engine=self.engine,
            clock=self.clock,
            max_jobs=settings.max_jobs,
            max_attempts=settings.max_instance_attempts,
            lease_seconds=settings.lease_seconds,
            server_id=lambda: self.membership.id,
            on_saved=self.router.forget,
            is_busy=self.router.is_busy,
            on_moved=self.ends.note,
            on_forgotten=self.ends.note_forgotten,
            before_end=JobReports(self.objects).before_end,
            on_started=lambda ref: self.metrics.count_agent_start(ref.attempt),
            on_lost=lambda loss: self.metrics.count_agent_loss(),
        )

    def handlers(self) -> Mapping[str, Mapping[str, Handler]]:
        """Return the operations served, by service and name."""
        settings = self._settings
        backends = sagemaker.Backends(
            jobs=self.jobs,
            documents=self.documents,
            objects=self.objects,
            images=self.images,
            clock=self.clock,
            built_in_metrics=built_in_metrics,
            pump=partial(self.scheduler.try_pump, for_all=True),
            wait_for_end=self.ends.wait,
            is_strict=settings.strict == "on",
        )
        return {
            "sagemaker": sagemaker.handlers(backends),
            "sagemaker-runtime": sagemaker_runtime.handlers(self.router),
            "s3": s3.handlers(
                self.objects,
                account=settings.account,
                accounts=self.keys,
                new_buckets=s3.NewBuckets(settings.new_buckets),
                clock=self.clock,
            ),
            "logs": logs.handlers(self.logs, account=settings.account),
            "sts": sts.handlers(keys=self.keys),
            "ecr": ecr.handlers(
                documents=self.documents, images=ImageFiles(settings.images_dir), account=settings.account
            ),
            "iam": iam.handlers(documents=self.documents, role_name=settings.role_name),
        }

    def application(self) -> ASGIApp:
        """Return the HTTP application."""
        handlers = self.handlers()
        return app(
            handlers,
            keys=self.keys,
            settings=self._settings,
            clock=self.clock,
            extra={
                "/_millrace/health": self._health,
                "/_millrace/metrics": MetricsPage(
                    self.metrics.registry, self.figures.read, token=self._settings.metrics_token
                ),
            },
            browsers=s3.Browsers(
                self.objects,
                keys=self.keys,
                put_object=handlers["s3"]["PutObject"],
                clock=self.clock,
                skew_seconds=self._settings.clock_skew_seconds,
            ),
            on_exchange=[self.metrics.count_exchange, *filter(None, [access_log(self._settings.access_log)])],
        )

    async def _health(self, request: Request) -> Response:
        body = json.dumps({"status": "ok", "version": __version__}).encode()
        return Response(status=200, headers=(("content-type", "application/json"),), body=body)

    def release_held(self) -> None:
        """Answer all Describe calls that are held for the end of a job: the server is about to end."""
        self.ends.release()

    def tell_agents(self, url: str) -> None:
        """Let agents started from now on know where the server is."""
        self._agent_environment[ENDPOINT_VARIABLE] = url
        self.engine.set_environment(self._agent_environment)

    @asynccontextmanager
    async def running(self, *, stop_jobs: bool) -> AsyncIterator[None]:
        """Move jobs while the block runs; then hand them over to another server on the state.

        The last one stops the endpoints' model servers, which the next server starts again. Finite jobs are left to
        their agents, unless `stop_jobs` says that nobody will come back for them.
        """
        if self.database.is_shared:
            await check_companion(self.documents, self._settings.objects_dir)
        await self.keys.delete_expired()
        await self.keys.ensure_first_key(role=self._settings.role_name)
        await self.engine.open()
        await self.engine.sweep(self.jobs.list_unfinished)
        await self.membership.join()
        moving = asyncio.create_task(self.scheduler.run(self.ends.look if self.database.is_shared else None))
        beating = asyncio.create_task(self.membership.keep())
        waking = asyncio.create_task(self._wake())
        sweeping = asyncio.create_task(self.objects.sweep())
        capturing = asyncio.create_task(self.capture.run())
        cleaning = asyncio.create_task(self._clean())
        try:
            yield
        finally:
            for task in (moving, beating, waking, sweeping, capturing, cleaning):
                task.cancel()
            for outcome in await asyncio.gather(
                moving, beating, waking, sweeping, capturing, cleaning, return_exceptions=True
            ):
                if isinstance(outcome, Exception):
                    log.error("background task failed", exc_info=outcome)
            await self._leave(stop_jobs=stop_jobs)
            self.router.close()
            await self.capture.flush()
            await self.engine.close()
            self.objects.close()
            self.database.close()

    async def _clean(self) -> None:
        """Run gc when it is due, of all servers of the state on one."""
        interval = self._settings.gc_interval_hours * 3600
        if interval:
            found = collectors(
                rules_of(self._settings),
                jobs=self.jobs,
                operation=self.operation,
                objects=self.objects,
                logs=self.logs,
                images=ImageFiles(self._settings.images_dir),
                engine=self.engine,
                work_dir=self._settings.work_dir,
            )
            await run_daily(found, operation=self.operation, clock=self.clock, interval_seconds=interval)

    async def _leave(self, *, stop_jobs: bool) -> None:
        try:
            if await self.membership.leave():
                await self._await_end(await self.scheduler.suspend(all_jobs=stop_jobs))
        except StoreUnavailable as exc:  # whoever comes next finds the agents at work
            log.error("jobs could not be handed over", extra={"detail": str(exc)})

    async def _await_end(self, agents: Sequence[AgentRecord]) -> None:
        deadline = self.clock.monotonic() + self._settings.serve_stop_grace_seconds
        while any(self.engine.is_alive(it) for it in agents) and self.clock.monotonic() < deadline:
            await self.clock.sleep(0.02)

    async def _wake(self) -> None:
        """Make a pass when an agent of ours has ended: it may have ended without a word."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self.scheduler.try_pump()


async def run_server(settings: Settings, *, stop_jobs: bool = False, stop_at_eof: bool = False) -> None:
    """Run the server of a data directory until SIGTERM or SIGINT.

    Args:
        stop_jobs: Whether the end of the server is the end of its jobs too, as under `millrace exec`.
        stop_at_eof: Whether the end of the standard input ends the server: whoever started it is gone.

    Raises:
        DataDirInUse: Another one runs on it.
        OSError: The address can't be listened on.
    """
    with server_place(settings) as place:
        server = Server(settings)
        listening: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        async with server.running(stop_jobs=stop_jobs):
            beside = [
                asyncio.create_task(_announce(settings, server, listening, place)),
                asyncio.create_task(_release_at(stop, server)),
            ]
            if stop_at_eof:
                beside.append(asyncio.create_task(_stop_at_eof(stop)))
            try:
                await serve(
                    server.application(),
                    settings.host,
                    settings.port,
                    lambda host, port: listening.set_result((host, port)),
                    stop=stop,
                    drain_seconds=settings.drain_seconds,
                )
            finally:
                for task in beside:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task


async def _stop_at_eof(stop: asyncio.Event) -> None:
    """Set `stop` once the standard input is closed; what comes before that is ignored."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
    stop.set()


async def _release_at(stop: asyncio.Event, server: Server) -> None:
    await stop.wait()
    server.release_held()


async def _announce(
    settings: Settings, server: Server, listening: "asyncio.Future[tuple[str, int]]", place: Path
) -> None:
    """Once the server listens, tell agents and commands where; then keep its CONNECT proxy open until cancelled."""
    from millrace.http.proxy import ConnectProxy  # its cryptography takes 50 ms to import: not before we answer

    host, port = await listening
    reachable = reachable_host(host)
    url = http_url(reachable, port)
    server.tell_agents(url)
    proxy = ConnectProxy(host=reachable, port=port, directory=settings.data_dir / "ca", clock=server.clock)
    await proxy.start()
    try:
        address = ServerAddress(
            url=url,
            process_id=os.getpid(),
            proxy_url=f"http://127.0.0.1:{proxy.port}",
            proxy_ca=str(proxy.bundle_path),
        )
        note_address(place, address)
        print(f"millrace {__version__} ready on {http_url(host, port)}, data in {settings.data_dir}", flush=True)
        await asyncio.Event().wait()
    finally:
        await proxy.close()
