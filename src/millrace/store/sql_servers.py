"""ServerStore on SQL."""

from millrace.clock import Clock
from millrace.moments import from_micros, to_micros
from millrace.ports.servers import ServerRecord
from millrace.store.database import Database, Row, Transaction, queries

__all__ = ["SqlServerStore"]

_Q = queries("servers")
_TABLE = "servers"


class SqlServerStore:
    """Servers in the table of that name; a job's owner stands in its row."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    async def join(self, server: ServerRecord, *, alone: bool) -> None:
        row = {
            "id": server.id,
            "machine": server.machine,
            "process_id": server.process_id,
            "process_start": server.process_start,
            "joined_at": to_micros(server.joined_at),
            "heartbeat_at": to_micros(server.heartbeat_at),
        }

        def add(transaction: Transaction) -> None:
            if alone:
                transaction.execute(_Q["delete_servers"], {})
            transaction.execute(_Q["insert_server"], row)
            transaction.execute(_Q["adopt_orphans"], {"id": server.id})

        await self._db.write(add, alone_in=_TABLE)

    async def beat(self, server_id: str) -> bool:
        row = {"id": server_id, "at": to_micros(self._clock.now())}
        beaten: Row | None = await self._db.write(
            lambda transaction: transaction.execute(_Q["beat"], row).fetchone(), is_fleeting=True
        )
        return beaten is not None

    async def list_servers(self) -> list[ServerRecord]:
        return [_server(row) for row in await self._db.all(_Q["list_servers"], {})]

    async def bury(self, dead: ServerRecord, heir: str) -> bool:
        read = {"id": dead.id, "heartbeat_at": to_micros(dead.heartbeat_at)}

        def take(transaction: Transaction) -> bool:
            if transaction.execute(_Q["bury"], read).fetchone() is None:
                return False
            transaction.execute(_Q["adopt_orphans"], {"id": heir})
            return True

        return await self._db.write(take, alone_in=_TABLE)

    async def adopt_orphans(self, server_id: str) -> None:
        if await self._db.one(_Q["find_orphan"], {}) is not None:
            row = {"id": server_id}
            await self._db.write(
                lambda transaction: transaction.execute(_Q["adopt_orphans"], row).rowcount, alone_in=_TABLE
            )

    async def leave(self, server_id: str, heirs: list[str]) -> str | None:
        def hand_over(transaction: Transaction) -> str | None:
            transaction.execute(_Q["delete_server"], {"id": server_id})
            for heir in heirs:
                if transaction.execute(_Q["find_server"], {"id": heir}).fetchone() is not None:
                    transaction.execute(_Q["hand_over"], {"id": server_id, "heir": heir})
                    return heir
            return None

        return await self._db.write(hand_over, alone_in=_TABLE)


def _server(row: Row) -> ServerRecord:
    return ServerRecord(
        id=row["id"],
        machine=row["machine"],
        process_id=row["process_id"],
        process_start=row["process_start"],
        joined_at=from_micros(row["joined_at"]),
        heartbeat_at=from_micros(row["heartbeat_at"]),
    )
