"""Connections and grants: those of workbench.yaml (read-only), and those that an admin made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from labwright.api.connections import ConnectionRequest, Grant
from labwright.api.errors import Conflict, InvalidRequest, LabwrightError, NotFound, Unavailable
from labwright.hub.audit import AuditLog
from labwright.hub.data import access, drivers, schema
from labwright.hub.data.vault import Vault
from labwright.hub.data.warehouse_files import DATABASE, READER, Warehouse
from labwright.hub.database import Database
from labwright.hub.events import EventLog
from labwright.hub.settings import Settings
from labwright.spawner.profiles import DeclaredConnection, Workbench


@dataclass(frozen=True)
class Definition:
    """A source as its worker needs it. `unlock` gives the credential, when a worker is started and not before."""

    name: str
    driver: str
    options: Mapping[str, str]
    description: str
    declared: bool
    version: str  # changes when the worker must be started anew
    unlock: Callable[[], str | None] = field(repr=False, compare=False)


def embedded(item: DeclaredConnection, settings: Settings) -> DeclaredConnection:
    """`options: {embedded: warehouse}` (or lake) stands for the one that comes with the workbench, wherever it is."""
    which = item.options.get("embedded")
    if which == "warehouse":
        cluster = Warehouse(settings.warehouse_folder)
        options = {"host": str(cluster.socket_folder), "database": DATABASE, "user": READER}
        return replace(item, driver="postgresql", options=options, secret=f"file:{cluster.reader_password}")
    if which == "lake":
        return replace(item, driver="duckdb", options={"path": str(settings.lake_folder)}, secret=None)
    return item


class Store:
    """Synchronous: call it from a worker thread."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        events: EventLog,
        workbench: Callable[[], Workbench],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self.database = database
        self._vault = vault
        self.audit = audit
        self._events = events
        self._workbench = workbench
        self._now = now

    # connections
    def connections(self) -> list[Definition]:
        """All of them, those of the file first."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(schema.connections).order_by(schema.connections.c.name)).all()
        declared = self._declared()
        return [*map(_of_file, declared.values()), *(self._of_row(row) for row in rows if row.name not in declared)]

    def connection(self, name: str) -> Definition:
        for definition in self.connections():
            if definition.name == name:
                return definition
        raise NotFound("connection", name)

    def _declared(self) -> dict[str, DeclaredConnection]:
        return {item.name: embedded(item, self._settings) for item in self._workbench().connections}

    def _of_row(self, row: sa.Row[tuple[object, ...]]) -> Definition:
        locked = row.secret
        return Definition(
            name=row.name,
            driver=row.driver,
            options=json.loads(row.options),
            description=row.description,
            declared=False,
            version=f"{row.created.isoformat()}",
            unlock=lambda: None if locked is None else self._vault.unlock(locked),
        )

    def check(self, request: ConnectionRequest) -> Definition:
        """A definition to try, before anything is stored; refuses what may not be made."""
        driver = drivers.find(request.driver)
        driver.check(request.options)
        path = request.options.get("path")
        if path is not None and Path(path).resolve().is_relative_to(self._settings.home):
            raise InvalidRequest("The workbench's own folders cannot be made a connection.", option="path")
        if any(definition.name == request.name for definition in self.connections()):
            raise Conflict(
                f"There is a connection '{request.name}' already.", remedy="Choose another name, or remove it first."
            )
        return Definition(
            request.name, request.driver, request.options, request.description, False, "new", lambda: request.secret
        )

    def add(self, request: ConnectionRequest, who: str) -> None:
        now = self._now()
        locked = None if request.secret is None else self._vault.lock(request.secret)
        with self.database.write() as connection:
            values = {
                "name": request.name,
                "driver": request.driver,
                "options": json.dumps(request.options),
                "secret": locked,
                "description": request.description,
                "created": now,
                "created_by": who,
            }
            try:
                connection.execute(schema.connections.insert().values(values))
            except sa.exc.IntegrityError:
                raise Conflict(f"There is a connection '{request.name}' already.") from None
            details = {"driver": request.driver, "options": request.options}
            self.audit.append(
                connection, now=now, who=who, action="connection.create", what=request.name, details=details
            )
            self._tell(connection, request.name, "created", now)

    def remove(self, name: str, who: str) -> None:
        """The connection and its grants."""
        if name in self._declared():
            raise Conflict(f"'{name}' stands in workbench.yaml.", remedy="Remove it there.")
        now = self._now()
        with self.database.write() as connection:
            gone = connection.execute(schema.connections.delete().where(schema.connections.c.name == name))
            if gone.rowcount == 0:
                raise NotFound("connection", name)
            connection.execute(schema.grants.delete().where(schema.grants.c.connection == name))
            self.audit.append(connection, now=now, who=who, action="connection.delete", what=name)
            self._tell(connection, name, "deleted", now)

    # grants
    def grants(self) -> list[Grant]:
        """All of them, those of the file first."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(schema.grants)).all()
        stored = [
            Grant(
                group=row.group_name,
                connection=row.connection,
                schemas=json.loads(row.schemas),
                tables=json.loads(row.tables),
                until=row.until,
            )
            for row in rows
        ]
        return [*self._declared_grants(), *stored]

    def _declared_grants(self) -> list[Grant]:
        return [
            Grant(group=item.group, connection=item.connection, schemas=list(item.schemas), tables=list(item.tables))
            for item in self._workbench().grants
        ]

    def grants_for(self, connection: str, groups: frozenset[str]) -> list[Grant]:
        return access.in_force(self.grants(), connection, groups, self._now())

    def put_grant(self, grant: Grant, who: str) -> None:
        """Make or change the one grant that a group has on a connection."""
        self.connection(grant.connection)
        if not grant.schemas or not grant.tables or not grant.group:
            raise InvalidRequest("A grant needs a group, schemas and tables.", remedy="'*' means all of them.")
        self._refuse_declared(grant.group, grant.connection)
        now, table = self._now(), schema.grants
        key = (table.c.group_name == grant.group) & (table.c.connection == grant.connection)
        with self.database.write() as connection:
            changed = connection.execute(table.delete().where(key)).rowcount
            connection.execute(
                table.insert().values(
                    group_name=grant.group,
                    connection=grant.connection,
                    schemas=json.dumps(grant.schemas),
                    tables=json.dumps(grant.tables),
                    until=grant.until.astimezone(UTC) if grant.until else None,
                )
            )
            details = grant.model_dump(mode="json")
            action = "grant.change" if changed else "grant.create"
            self.audit.append(connection, now=now, who=who, action=action, what=grant.connection, details=details)
            self._tell(connection, grant.connection, "updated", now)

    def remove_grant(self, group: str, name: str, who: str) -> None:
        self._refuse_declared(group, name)
        now, table = self._now(), schema.grants
        with self.database.write() as connection:
            key = (table.c.group_name == group) & (table.c.connection == name)
            if connection.execute(table.delete().where(key)).rowcount == 0:
                raise NotFound("grant", f"{group} on {name}")
            self.audit.append(connection, now=now, who=who, action="grant.delete", what=name, details={"group": group})
            self._tell(connection, name, "updated", now)

    def _refuse_declared(self, group: str, name: str) -> None:
        if any(item.group == group and item.connection == name for item in self._declared_grants()):
            raise Conflict(f"The grant of '{name}' to '{group}' stands in workbench.yaml.", remedy="Change it there.")

    def _tell(self, connection: sa.Connection, key: str, action: str, now: datetime) -> None:
        self._events.append(connection, owner="*", topic="connection", key=key, action=action, now=now)  # type: ignore[arg-type]


def _of_file(item: DeclaredConnection) -> Definition:
    version = json.dumps([item.driver, dict(item.options), item.secret], sort_keys=True)
    return Definition(
        item.name, item.driver, item.options, item.description, True, version, lambda: resolve_secret(item.secret)
    )


def resolve_secret(reference: str | None) -> str | None:
    """The secret behind file:/path."""
    if reference is None:
        return None
    kind, _, value = reference.partition(":")
    if kind == "file" and value:
        try:
            return Path(value).read_text().strip()
        except OSError:
            raise Unavailable("The connection's credential", remedy="It may still be made: try again soon.") from None
    raise LabwrightError("A secret is given as file:/path.", remedy="Mend it in workbench.yaml.")
