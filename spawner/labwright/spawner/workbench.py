"""Read and check config/workbench.yaml. Errors name the file, line, column, what is wrong and the fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from labwright.api.errors import InvalidRequest
from labwright.spawner import profiles

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SLUG = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
_SECRET = r"^file:/.+$"  # noqa: S105 - a pattern
# So much of one file is no admin's; a parser would take minutes and gigabytes for it.
_MOST_BYTES = 1 << 20
_MOST_DIGITS = 400


class BadWorkbench(InvalidRequest):
    """The file cannot be used; `details` has every problem with its line and column."""

    code = "bad-workbench"

    def __init__(self, path: Path, problems: list[dict[str, Any]]) -> None:
        lines = [f"{path}:{item['line']}:{item['column']}: {item['what']}. {item['fix']}" for item in problems]
        super().__init__("\n".join(lines), problems=problems)


def parse_bytes(value: object) -> int:
    """2G, 512M or a number of bytes; units are powers of 1024, as KubeSpawner has them."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)i?B?", str(value).strip(), re.ASCII)
    if match is None or isinstance(value, bool):
        raise ValueError(f"'{value}' is not an amount of memory; write it like 512M, 2G or 1.5G")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_seconds(value: object) -> int:
    """30s, 20m, 1h, 2d."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd])", str(value).strip(), re.ASCII)
    if match is None or not (seconds := int(float(match[1]) * _SECONDS[match[2]])):
        raise ValueError(f"'{value}' is not a duration; write it like 90s, 20m or 1h")
    return seconds


_SIZE_SCHEMA = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[KMGT]?i?B?$"}]}
_TIME_SCHEMA = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]$"}
Size = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(_SIZE_SCHEMA)]
Duration = Annotated[int, BeforeValidator(parse_seconds), WithJsonSchema(_TIME_SCHEMA)]
Slug = Annotated[str, Field(pattern=_SLUG)]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)


class TolerationEntry(Entry):
    """A toleration of the pod, on Kubernetes."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class ProfileEntry(Entry):
    """A size of server, run or cluster worker."""

    slug: Slug = Field(description="What API, command line and notebooks call it.")
    name: str = Field(min_length=1, max_length=60, description="The title of its card.")
    description: str = Field(default="", description="A line under the title.")
    cpu: float = Field(gt=0, le=1024, description="Cores; 0.5 is half of one.")
    memory: Size = Field(gt=0, description="Like 512M, 2G.")
    gpu: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="Resource name to count. Once a profile has GPUs, each process is shown its own alone."
    )
    image: str = Field(min_length=1, description="Short name from `images`, or a full reference.")
    price_per_hour: float = Field(ge=0, description="In `currency`; what usage and budgets count.")
    groups: list[str] = Field(default=["everyone"], min_length=1, description="Who may choose it.")
    options: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default={}, description="What people may choose: allowed values, the first is the default."
    )
    node_selector: dict[str, str] = Field(default={}, description="For Kubernetes.")
    tolerations: list[TolerationEntry] = Field(default=[], description="For Kubernetes.")


class BudgetEntry(Entry):
    """How much may be spent."""

    amount: float = Field(ge=0, description="In `currency`.")
    per: Literal["day", "week", "month"] = Field(default="month", description="Begins anew with each, in UTC.")


class QuotaEntry(Entry):
    """Limits of a group, a user, or (`user: default`) of every user without a rule of their own."""

    group: str | None = Field(default=None, description="A group whose members share the limits; or `user`.")
    user: str | None = Field(default=None, description="One user, or `default`; or `group`.")
    servers: int | None = Field(default=None, ge=0, description="Most servers at a time.")
    runs: int | None = Field(default=None, ge=0, description="Most runs at a time.")
    clusters: int | None = Field(default=None, ge=0, description="Most clusters at a time.")
    cpu: float | None = Field(default=None, ge=0, description="Most cores at a time, of all that runs.")
    memory: Size | None = Field(default=None, description="Most memory at a time, of all that runs.")
    gpu: int | None = Field(default=None, ge=0, description="Most GPUs at a time, of all that runs.")
    budget: BudgetEntry | None = Field(default=None, description="Most cost in a day, week or month.")


class IdleEntry(Entry):
    """After how long without work things stop."""

    server: Duration = Field(default=3600, description="A server, like 90s, 20m or 1h.")
    gpu: Duration = Field(default=1200, description="A server with a GPU.")
    cluster: Duration = Field(default=1800, description="A cluster.")


class ConnectionEntry(Entry):
    """A source of data; nobody may read it without a grant."""

    name: Slug = Field(description="What `%%sql` and the Data panel call it.")
    driver: str = Field(min_length=1, examples=["postgresql", "duckdb"], description="Such as postgresql, duckdb.")
    description: str = Field(default="", description="A line for people.")
    options: dict[str, str] = Field(default={}, description="The driver's options; never a credential.")
    secret: str | None = Field(
        default=None,
        pattern=_SECRET,
        description="`file:/path` of a file that only the data service may read, with the password in it.",
    )


class GrantEntry(Entry):
    """What a group may read in a connection."""

    group: str = Field(description="A group, or `everyone`.")
    connection: str = Field(description="The name of a connection.")
    schemas: list[str] = Field(default=["*"], description="Patterns with * and ?.")
    tables: list[str] = Field(default=["*"], description="Patterns with * and ?.")


class WorkbenchFile(Entry):
    """Labwright's one file for the admin."""

    profiles: list[ProfileEntry] = Field(min_length=1, description="The cards of the spawn page, in this order.")
    quotas: list[QuotaEntry] = Field(default=[], description="How much people and groups may hold and spend.")
    idle: IdleEntry = Field(default=IdleEntry(), description="When what nobody uses is stopped.")
    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$", description="Of all prices.")
    images: dict[str, str] = Field(default={}, description="Short name to full reference, for Kubernetes.")
    connections: list[ConnectionEntry] = Field(default=[], description="Sources of data.")
    grants: list[GrantEntry] = Field(default=[], description="Who may read which of them.")
    groups: dict[str, list[Literal["developer", "ai-admin", "cloud-admin"]]] = Field(
        default={}, description="Group to roles."
    )


def json_schema() -> dict[str, Any]:
    """The published schema, config/workbench.schema.json."""
    schema = WorkbenchFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Labwright workbench"}


def load(path: Path) -> profiles.Workbench:
    """The workbench that the file describes, or `BadWorkbench` with every problem in it."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadWorkbench(path, [_problem(1, 1, f"it cannot be read: {reason}", "Create or repair it.")]) from None
    return parse(text, path)


def parse(text: str, path: Path = Path("workbench.yaml")) -> profiles.Workbench:
    tree = _read_yaml(text, path)
    try:
        file = WorkbenchFile.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(tree, item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise BadWorkbench(path, sorted(problems, key=lambda item: (item["line"], item["column"]))) from None
    problems = [_problem(*position(tree, where), what, fix) for where, what, fix in inconsistencies(file)]
    if problems:
        raise BadWorkbench(path, problems)
    return to_workbench(file)


def _read_yaml(text: str, path: Path) -> Any:
    if len(text) > _MOST_BYTES:
        what, fix = f"the file is larger than {_MOST_BYTES >> 20} MB", "Is it the right one?"
        raise BadWorkbench(path, [_problem(1, 1, what, fix)])
    if number := re.search(rf"\d{{{_MOST_DIGITS + 1},}}", text):
        before = text[: number.start()]
        where = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise BadWorkbench(path, [_problem(*where, f"a number of more than {_MOST_DIGITS} digits", "Shorten it.")])
    try:
        tree = YAML(typ="rt").load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        # ruamel's words about a key that is there twice go on with both values: one may be a password.
        what = f"this is not YAML: {(error.problem or error.context or '').partition(' with value ')[0]}"
        fix = "Check the indentation, quotes and brackets here and on the line before."
        raise BadWorkbench(path, [_problem(line, column, what, fix)]) from None
    except YAMLError as error:
        raise BadWorkbench(path, [_problem(1, 1, f"this is not YAML: {type(error).__name__}", "Repair it.")]) from None
    except RecursionError:
        what, fix = "lists or mappings lie too deep in each other", "Close the brackets, and correct the indentation."
        raise BadWorkbench(path, [_problem(1, 1, what, fix)]) from None
    if not isinstance(tree, dict):
        raise BadWorkbench(path, [_problem(1, 1, "the file is no mapping", "Start it with 'profiles:'.")])
    return tree


def position(tree: Any, where: tuple[int | str, ...]) -> tuple[int, int]:
    """Line and column (from 1) of a place in the file, or of the nearest thing around it."""
    line, column = 0, 0
    for part in where:
        marks = getattr(tree, "lc", None)
        try:
            if isinstance(tree, dict):
                line, column = marks.key(part)  # type: ignore[union-attr]
            else:
                line, column = marks.item(part)  # type: ignore[union-attr]
            tree = tree[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line + 1, column + 1


def _describe(tree: Any, where: tuple[int | str, ...], kind: str, message: str) -> dict[str, Any]:
    line, column = position(tree, where)
    name = ".".join(str(part) for part in where)
    message = message.removeprefix("Value error, ")
    if kind == "missing":
        return _problem(line, column, f"'{where[-1]}' is missing", f"Add '{where[-1]}: …' to this entry.")
    if kind == "extra_forbidden":
        known = ", ".join(known_keys(where))
        return _problem(line, column, f"'{where[-1]}' is not known here", f"Use one of: {known}; or remove it.")
    if kind == "value_error":
        return _problem(line, column, f"{name}: {message}", "Change the value as said.")
    meant = fields_beside(where).get(str(where[-1]), {}).get("description", "")
    fix = f"Correct the value of '{name}'" + (f": {meant}" if meant else ".")
    return _problem(line, column, f"{name}: {message[0].lower()}{message[1:]}", fix)


def known_keys(where: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema allows beside the one at `where`."""
    return sorted(fields_beside(where))


def fields_beside(where: tuple[int | str, ...]) -> dict[str, Any]:
    """The schema of the fields that stand where `where` stands, by name."""
    schema = json_schema()
    node: dict[str, Any] = schema
    for part in where[:-1]:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        options = [node, *node.get("anyOf", ())]
        reference = next((option["$ref"] for option in options if "$ref" in option), None)
        if reference:
            node = schema["$defs"][reference.rsplit("/", 1)[1]]
    fields: dict[str, Any] = node.get("properties", {})
    return fields


def _problem(line: int, column: int, what: str, fix: str) -> dict[str, Any]:
    return {"line": line, "column": column, "what": what, "fix": fix}


def inconsistencies(file: WorkbenchFile) -> list[tuple[tuple[int | str, ...], str, str]]:
    """What no single entry can show: names used twice, references to nothing. Place, what, fix."""
    found: list[tuple[tuple[int | str, ...], str, str]] = []

    def unique(section: str, names: list[str], key: str) -> None:
        for index, name in enumerate(names):
            if name in names[:index]:
                found.append(((section, index, key), f"the {key} '{name}' is used twice", "Give each its own."))

    unique("profiles", [entry.slug for entry in file.profiles], "slug")
    unique("connections", [entry.name for entry in file.connections], "name")
    for index, quota in enumerate(file.quotas):
        if (quota.group is None) == (quota.user is None):
            found.append((("quotas", index), "a quota is for a group or for a user", "Give one of 'group' and 'user'."))
    declared = {entry.name for entry in file.connections}
    for index, grant in enumerate(file.grants):
        if declared and grant.connection not in declared:
            known = ", ".join(sorted(declared))
            what = f"there is no connection '{grant.connection}'"
            found.append((("grants", index, "connection"), what, f"Use one of: {known}."))
    return found


def to_workbench(file: WorkbenchFile) -> profiles.Workbench:
    return profiles.Workbench(
        profiles=tuple(_profile(entry) for entry in file.profiles),
        quotas=tuple(_quota(entry) for entry in file.quotas),
        idle=profiles.Idle(file.idle.server, file.idle.gpu, file.idle.cluster),
        currency=file.currency,
        images=dict(file.images),
        connections=tuple(
            profiles.DeclaredConnection(entry.name, entry.driver, dict(entry.options), entry.secret, entry.description)
            for entry in file.connections
        ),
        grants=tuple(
            profiles.DeclaredGrant(entry.group, entry.connection, tuple(entry.schemas), tuple(entry.tables))
            for entry in file.grants
        ),
        groups={name: tuple(roles) for name, roles in file.groups.items()},
    )


def _profile(entry: ProfileEntry) -> profiles.Profile:
    return profiles.Profile(
        slug=entry.slug,
        name=entry.name,
        cpu=entry.cpu,
        memory_bytes=entry.memory,
        image=entry.image,
        price_per_hour=entry.price_per_hour,
        description=entry.description,
        gpu=dict(entry.gpu),
        groups=tuple(entry.groups),
        options={name: tuple(values) for name, values in entry.options.items()},
        node_selector=dict(entry.node_selector),
        tolerations=tuple(profiles.Toleration(t.key, t.operator, t.value, t.effect) for t in entry.tolerations),
    )


def _quota(entry: QuotaEntry) -> profiles.QuotaRule:
    return profiles.QuotaRule(
        group=entry.group,
        user=entry.user,
        servers=entry.servers,
        runs=entry.runs,
        clusters=entry.clusters,
        cpu=entry.cpu,
        memory_bytes=entry.memory,
        gpu=entry.gpu,
        budget=profiles.Budget(entry.budget.amount, entry.budget.per) if entry.budget else None,
    )


class WatchedWorkbench:
    """The file as last read without errors; looks again when it changed, so that no restart is needed.

    `on_problem` is told once per broken version of the file, and the former version stays in force.
    """

    def __init__(self, path: Path, on_problem: Callable[[BadWorkbench], None]) -> None:
        self._path = path
        self._on_problem = on_problem
        self._stamp = self._look()
        self._workbench = load(path)

    def __call__(self) -> profiles.Workbench:
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._workbench = load(self._path)
            except BadWorkbench as problem:
                self._on_problem(problem)
        return self._workbench

    def _look(self) -> tuple[int, int]:
        try:
            seen = self._path.stat()
        except OSError:
            return (0, 0)
        return (seen.st_mtime_ns, seen.st_size)
