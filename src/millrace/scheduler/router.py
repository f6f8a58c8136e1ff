"""Carry invocations to the instances of endpoints.

Routes are read from the store when an endpoint is first called and again after it moved; between, an invocation costs
no query. An instance that accepts no connection has not seen the request: the next one is asked, by a route read anew.

Before an instance is stopped it is drained: the scheduler makes us forget the route, so that no further request goes
there, and asks `is_busy` until the last one is answered.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from millrace.dataplane import client
from millrace.dataplane.answers import Answer
from millrace.dataplane.client import ClientError, ConnectionFailed, InvocationTimeout, OpenAnswer
from millrace.jobs.captured_calls import CapturedCall
from millrace.jobs.job import EndpointJob, Job, JobKind, JobStatus
from millrace.ports.endpoints import AnswerTooLarge, Invocation, InvocationAnswer, NoSuchEndpoint
from millrace.ports.jobs import JobStore, NoSuchJob
from millrace.scheduler.data_capture import DataCaptureWriter
from millrace.scheduler.routes import Route, Target, rebuilt_route

__all__ = ["StoreRouter"]

A = TypeVar("A", Answer, OpenAnswer)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of a container's answer that are held. SageMaker carries 6 MB (containers.md 5.3); more does no harm."""

ROUTE_SECONDS = 1.0
"""How long a route is trusted: another server on the same store may have moved the endpoint."""

NEW_SESSION = "x-amzn-sagemaker-new-session-id"


class StoreRouter:
    """An EndpointRouter over the job store."""

    def __init__(
        self,
        jobs: JobStore,
        *,
        capture: DataCaptureWriter | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take the jobs, who writes captured calls down (None: nobody), and what draws numbers from 0 to 1."""
        self._jobs = jobs
        self._capture = capture
        self._draw = draw
        self._routes: dict[tuple[str, str], Route] = {}
        self._moves = 0
        self._turns = 0
        self._leaving: list[Target] = []

    async def invoke(self, invocation: Invocation) -> InvocationAnswer:
        async def ask(target: Target) -> Answer:
            try:
                return await target.client.invoke(
                    "POST",
                    "/invocations",
                    invocation.headers,
                    invocation.body,
                    timeout_seconds=invocation.timeout_seconds,
                    max_answer_bytes=MAX_ANSWER_BYTES,
                )
            except client.AnswerTooLarge as exc:
                raise AnswerTooLarge(str(exc)) from exc

        route, variant, target, answer = await self._ask_one(invocation, ask)
        target.give_back()
        if route.capture is not None and self._capture is not None and answer.status < 300:
            call = _captured(route, variant, invocation, answer.headers, answer.body)
            self._capture.offer(route.capture, call)
        return InvocationAnswer(status=answer.status, headers=answer.headers, body=answer.body, variant=variant)

    async def stream(self, invocation: Invocation) -> "RoutedStream":
        def ask(target: Target) -> Awaitable[OpenAnswer]:
            return target.client.open(
                "POST",
                "/invocations",
                invocation.headers,
                invocation.body,
                head_timeout_seconds=invocation.timeout_seconds,
                timeout_seconds=invocation.stream_timeout_seconds,
            )

        route, variant, target, answer = await self._ask_one(invocation, ask)
        return RoutedStream(answer, target, variant, self._listener(route, variant, invocation, answer))

    async def _ask_one(
        self, invocation: Invocation, ask: Callable[[Target], Awaitable[A]]
    ) -> tuple[Route, str, Target, A]:
        """Ask instances until one answers; return its answer and who it is, still taken: the caller gives it back."""
        tried: list[Target] = []
        while True:
            route = await self._route(invocation.region, invocation.endpoint)
            variant, target = route.pick(invocation, self._draw, tried)
            self._turns += 1
            target.take(self._turns)
            try:
                answer = await ask(target)
            except ClientError as exc:
                target.give_back()
                self._after_failure(exc, route, target, tried)
            except BaseException:
                target.give_back()
                raise
            else:
                target.is_broken = False
                if invocation.session is not None:
                    _bind_session(route, target, answer.headers)
                return route, variant, target, answer

    def _listener(
        self, route: Route, variant: str, invocation: Invocation, answer: OpenAnswer
    ) -> Callable[[bytes], None] | None:
        """Return what is to be told the whole body of a streamed answer, if its call is to be captured."""
        settings, writer = route.capture, self._capture
        if settings is None or writer is None or answer.status >= 300:
            return None
        return lambda body: writer.offer(settings, _captured(route, variant, invocation, answer.headers, body))

    def _after_failure(self, exc: ClientError, route: Route, target: Target, tried: list[Target]) -> None:
        """Note an instance that is gone and return, so that the next is asked; raise where it may have been at work."""
        if isinstance(exc, InvocationTimeout):
            raise TimeoutError(str(exc)) from exc
        target.is_broken = True
        route.checked_at = float("-inf")
        if not (isinstance(exc, ConnectionFailed) and exc.absent):
            raise ConnectionError(str(exc)) from exc
        tried.append(target)

    def is_busy(self, address: str) -> bool:
        """Whether the instance at an address is still answering a request of ours."""
        self._leaving = [it for it in self._leaving if it.in_flight]
        current = [it for route in self._routes.values() for it in route.all_targets()]
        return any(it.in_flight and str(it.address) == address for it in (*self._leaving, *current))

    def forget(self, job: Job) -> None:
        """Read an endpoint's route anew at its next call: it moved."""
        if isinstance(job, EndpointJob):
            self._moves += 1
            route = self._routes.get((job.region, job.name))
            if route is None:
                return
            route.checked_at = float("-inf")
            if job.status is JobStatus.DELETING:
                del self._routes[job.region, job.name]
                self._retire(route.all_targets())
            if self._capture is not None and route.capture is not None:
                self._capture.flush_soon()

    def close(self) -> None:
        """Drop all connections."""
        for route in self._routes.values():
            for target in route.all_targets():
                target.retire()
        self._routes.clear()

    async def _route(self, region: str, name: str) -> Route:
        route = self._routes.get((region, name))
        now = time.monotonic()
        if route is not None and now - route.checked_at < ROUTE_SECONDS:
            return route
        while True:
            moves = self._moves
            try:
                job = await self._jobs.get(JobKind.ENDPOINT, region, name)
            except NoSuchJob:
                gone = self._routes.pop((region, name), None)
                self._retire([] if gone is None else gone.all_targets())
                raise NoSuchEndpoint(name) from None
            if moves == self._moves:  # else what was read may be from before a move that we were told of
                break
        assert isinstance(job, EndpointJob)
        route = self._routes.get((region, name))  # another invocation may have read it meanwhile
        if route is None or route.version != job.version:
            route, leaving = rebuilt_route(job, route)
            self._routes[region, name] = route
            self._retire(leaving)
        route.checked_at = now
        return route

    def _retire(self, targets: Sequence[Target]) -> None:
        for target in targets:
            target.retire()
            if target.in_flight:
                self._leaving.append(target)


class RoutedStream:
    """An InvocationStream from one instance."""

    def __init__(
        self, answer: OpenAnswer, target: Target, variant: str, on_whole: Callable[[bytes], None] | None
    ) -> None:
        self.status = answer.status
        self.headers: Sequence[tuple[str, str]] = answer.headers
        self.variant = variant
        self._answer = answer
        self._on_whole = on_whole
        self._target: Target | None = target

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: list[bytes] | None = [] if self._on_whole is not None else None
        size = 0
        try:
            async for piece in self._answer:
                if pieces is not None:
                    size += len(piece)
                    pieces.append(piece)
                    if size > MAX_CAPTURED_STREAM_BYTES:
                        pieces = None
                yield piece
        except InvocationTimeout as exc:
            raise TimeoutError(str(exc)) from exc
        except ConnectionFailed as exc:
            raise ConnectionError(str(exc)) from exc
        if pieces is not None and self._on_whole is not None:
            self._on_whole(b"".join(pieces))

    def close(self) -> None:
        if self._target is not None:
            target, self._target = self._target, None
            self._answer.close()
            target.give_back()


MAX_CAPTURED_STREAM_BYTES = 6 * 1024 * 1024
"""A longer streamed answer is not captured: what is captured has to be held until it is whole."""


def _bind_session(route: Route, target: Target, headers: Sequence[tuple[str, str]]) -> None:
    for name, value in headers:
        if name == NEW_SESSION:
            route.bind(value.partition(";")[0].strip(), target)


def _captured(
    route: Route, variant: str, invocation: Invocation, headers: Sequence[tuple[str, str]], body: bytes
) -> CapturedCall:
    return CapturedCall(
        endpoint=route.endpoint,
        variant=variant,
        input_type=invocation.content_type,
        input_body=invocation.body,
        output_type=next((value for name, value in headers if name == "content-type"), None),
        output_body=body,
        inference_id=invocation.inference_id,
        custom_attributes=invocation.custom_attributes,
    )
