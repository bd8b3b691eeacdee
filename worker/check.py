"""Can it work? Settings, database, broker, models, spool, PACS: one line each, the fix in words."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from kombu import Connection

from models.engines.choice import choose
from models.errors import ModelError
from worker import bootstrap, schema, tls
from worker.accounts import users
from worker.audit.anchor import AnchorFile, newest_anchor_fits
from worker.config import Settings, is_loopback, unknown_names
from worker.database import Database
from worker.errors import AuditBroken, ChildLost, FirstreadError, SchemaOwed
from worker.guarded.confinement import WHY
from worker.inference.pixels import PixelReader
from worker.intake.headers import HeaderReader
from worker.intake.spool import Spool
from worker.reporting import pacs
from worker.supervision.addresses import port_is_free


@dataclass(frozen=True)
class Finding:
    """What a check found; `fix` says what to do when it is not well."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def check_all(settings: Settings) -> Iterator[Finding]:
    """Check one thing after the other."""
    yield check_settings()
    yield from check_addresses(settings)
    yield check_callers(settings)
    yield check_tls(settings)
    try:
        database = Database(settings.effective_database_url)
    except (sa.exc.SQLAlchemyError, ImportError, OSError, ValueError) as error:
        fix = "mend FIRSTREAD_DATABASE_URL; PostgreSQL needs the extra `postgres`"
        yield Finding("database", False, f"FIRSTREAD_DATABASE_URL cannot be opened: {_first_line(error)}", fix)
    else:
        yield check_database(database)
        yield check_login(settings, database)
        yield from check_audit(settings, database)
        database.dispose()
    yield check_broker(settings)
    yield from check_models(settings)
    yield check_routes(settings)
    yield check_spool(settings)
    yield from check_children(settings)
    yield from check_pacs(settings)
    yield from check_commitment(settings)


def check_settings() -> Finding:
    """Look for names in the environment and in the file that are no setting."""
    unknown = unknown_names()
    if unknown:
        return Finding("settings", False, f"unknown: {', '.join(unknown)}", "`firstread config` lists the settings")
    return Finding("settings", True, "all known and valid")


def check_addresses(settings: Settings) -> Iterator[Finding]:
    """Say whether the addresses to listen at are this machine's, whatever listens there now."""
    for name, host in (("FIRSTREAD_DICOM_HOST", settings.dicom_host), ("FIRSTREAD_WEB_HOST", settings.web_host)):
        if port_is_free(host, 0):
            yield Finding(name, True, host)
        else:
            fix = "say 127.0.0.1, an address of this machine, or 0.0.0.0 for all of them"
            yield Finding(name, False, f"{host} is no address of this machine", fix)


def check_callers(settings: Settings) -> Finding:
    """Say who may call the listener."""
    if not settings.callers:
        return Finding("callers", True, ANYBODY)
    count = len(settings.caller)
    tables = f"{count} [[caller]] {'table' if count == 1 else 'tables'}" if count else ""
    return Finding("callers", True, f"only {', '.join(filter(None, [*settings.calling_aes, tables]))}")


def check_tls(settings: Settings) -> Finding:
    """Judge the certificates of TLS; one that ends soon is a finding."""
    if settings.tls_certificate is None:
        return Finding("tls", True, "off: the DICOM port is plain; set FIRSTREAD_TLS_CERTIFICATE, _KEY and _CA")
    try:
        tls.server_context(settings.credentials, verify_peer=settings.tls_verify_peer)
        ours = tls.inspect(settings.credentials)
    except FirstreadError as error:
        return Finding("tls", False, str(error), "mend it; until then the listener does not start")
    plain = "" if settings.dicom_plain_port is None else f"; port {settings.dicom_plain_port} is plain"
    shown = f"{ours.subject}, {ours.days_left} days left{plain}"
    if ours.days_left < tls.WARN_DAYS:
        return Finding("tls", False, shown, "renew the certificate, then send the listener SIGHUP")
    return Finding("tls", True, shown)


ANYBODY = "any AE title may call; set FIRSTREAD_CALLING_AES"


SERIOUS = frozenset({"open a socket", "start a process"})
"""What a child that reads hostile objects must nowhere be able to do."""


def check_database(database: Database) -> Finding:
    """Connect, and compare the schema."""
    shown = database.url.render_as_string(hide_password=True)
    try:
        found, needed = schema.current(database), schema.newest()
    except sa.exc.SQLAlchemyError as error:
        return Finding("database", False, f"{shown}: {_first_line(error)}", "start it, or mend FIRSTREAD_DATABASE_URL")
    if found == needed:
        return Finding("database", True, f"{shown}, schema {found}")
    if database.is_sqlite and found is None:
        return Finding("database", True, f"{shown}: not made yet; the first service makes it")
    newer = found is not None and found not in schema.known()
    fix = "install the newer release that wrote it" if newer else "run `firstread migrate`"
    return Finding("database", False, f"{shown}: schema {found or 'empty'}, needed {needed}", fix)


def check_login(settings: Settings, database: Database) -> Finding:
    """Say who gets in to the worklist; beyond loopback somebody has to be able to, and in clear nobody should."""
    ways = [
        *(["FIRSTREAD_API_TOKEN"] if settings.api_token is not None else []),
        *([f"people of {settings.oidc_issuer}"] if settings.oidc_issuer else []),
    ]
    try:
        with database.read() as session:
            made = schema.current(database) is not None  # SQLite's is made by the first service
            ways += ["accounts and tokens in the database"] if made and users.anybody(session) else []
    except sa.exc.SQLAlchemyError as error:
        return Finding("login", False, f"accounts cannot be read: {_first_line(error)}", "mend the database first")
    if is_loopback(settings.web_host):
        words = (
            ", ".join(ways) or "nobody yet: the JSON interface is open to this machine, the pages to a one-time link"
        )
        return Finding("login", True, words)
    if not ways:
        fix = "`firstread users add NAME --role radiologist`; until then no patient data is shown to anybody"
        return Finding("login", False, f"FIRSTREAD_WEB_HOST={settings.web_host} and nobody can log in", fix)
    if not settings.trusted_proxies:
        fix = (
            "put a proxy that speaks https before it, name it in FIRSTREAD_TRUSTED_PROXIES, bind to where it reaches us"
        )
        return Finding("login", False, f"passwords go in clear to http://{settings.web_host}", fix)
    return Finding("login", True, ", ".join(ways))


def check_audit(settings: Settings, database: Database) -> Iterator[Finding]:
    """Hold the newest anchor of the audit chain against the event that it names, and no more than that."""
    file = AnchorFile(settings.anchors_file)
    try:
        if schema.current(database) == schema.newest():
            yield Finding("audit", True, newest_anchor_fits(database, file))
    except AuditBroken as error:
        yield Finding("audit", False, str(error), "`firstread audit verify` says more")
    except sa.exc.SQLAlchemyError:
        return  # the database's own line says so


def check_broker(settings: Settings) -> Finding:
    """Connect to the broker once."""
    if not settings.broker_url:
        words = "none set; `firstread up` starts its own, a listener alone needs none"
        return Finding("broker", True, words)
    options = {"socket_connect_timeout": 2, "socket_timeout": 2}
    redis = settings.broker_url.startswith("redis")
    connection = Connection(settings.broker_url, connect_timeout=2, transport_options=options if redis else {})
    try:
        with connection:
            connection.ensure_connection(max_retries=1, timeout=3)
            shown = connection.as_uri(include_password=False)
    except Exception as error:  # noqa: BLE001 - each transport raises its own; all mean: not reachable
        shown = connection.as_uri(include_password=False)
        return Finding("broker", False, f"{shown}: {_first_line(error)}", "start it, or mend FIRSTREAD_BROKER_URL")
    return Finding("broker", True, shown)


def check_models(settings: Settings) -> Iterator[Finding]:
    """Verify the digests of every installed package, and say which engine it runs on."""
    packages = bootstrap.model_registry(settings).packages()
    if not packages:
        yield Finding("models", False, "none installed", "`firstread models add PATH`")
    for package in packages:
        try:
            package.verify_files()
        except ModelError as error:
            yield Finding(f"model {package.card.identifier}", False, str(error), "install the package again")
            continue
        try:
            choice = choose(package, settings.engine, settings.precision)
        except ModelError as error:
            yield Finding(f"model {package.card.identifier}", False, str(error), "mend FIRSTREAD_ENGINE")
        else:
            shown = f"its files are as the card says; runs on {choice.engine}: {choice.why}"
            if choice.refused:
                shown += f"; in float32, though FIRSTREAD_PRECISION asks for mixed: {choice.refused}"
            yield Finding(f"model {package.card.identifier}", True, shown)


def check_routes(settings: Settings) -> Finding:
    """Look for routes of the site's own that name a model that is not installed."""
    registry = bootstrap.model_registry(settings)
    missing = []
    for route in settings.route:
        if route.model is None:
            continue
        try:
            registry.find(route.model)
        except ModelError:
            missing.append(f"route {route.name!r} names the model {route.model}, which is not installed")
    if missing:
        return Finding("routes", False, "; ".join(missing), "`firstread models add PATH`, or mend the route")
    return Finding("routes", True, f"{len(settings.route)} of your own, then the shipped ones")


def check_spool(settings: Settings) -> Finding:
    """Compare the free space with the floor, and try to write."""
    try:
        spool = Spool(settings.spool_dir, min_free_bytes=settings.min_free_bytes)
        with spool.receive() as incoming:
            incoming.write(b"\0")
        free = spool.free_bytes()
    except OSError as error:
        return Finding("spool", False, f"{settings.spool_dir}: {error}", "make it writable for this user")
    shown = f"{settings.spool_dir}: {free / (1 << 30):.1f} GiB free"
    if not spool.has_room():
        fix = "free space, or lower FIRSTREAD_MIN_FREE_BYTES; until then scans are refused with A700"
        return Finding("spool", False, shown, fix)
    return Finding("spool", True, shown)


def check_children(settings: Settings) -> Iterator[Finding]:
    """Start a child that decodes pixels and one that reads headers, and have each try what it must not be able to do.

    A platform without some of the layers is no fault of the settings: the line says what is missing and what it means.
    Where a child can reach the network or start a program, that is a finding.
    """
    pixels = PixelReader(seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes)
    headers = HeaderReader()
    for name, child in (("decoding child", pixels.child), ("header child", headers.child)):
        try:
            layers, possible = child.layers(), child.probe()
        except ChildLost as error:
            yield Finding(name, False, str(error), "raise FIRSTREAD_DECODE_BYTES, or free memory")
            continue
        finally:
            child.close()
        in_force = "; ".join(f"{layer}: {words}" for layer, (there, words) in layers.items() if there)
        missing = [f"no {layer} ({words}): {WHY[layer]}" for layer, (there, words) in layers.items() if not there]
        tried = f"tried and possible: {', '.join(possible)}" if possible else "tried: it can do nothing else"
        fix = "run it on Linux 5.13 or newer with Landlock and seccomp allowed" if SERIOUS & set(possible) else ""
        yield Finding(name, not fix, ". ".join([in_force or "nothing in force", *missing, tried]), fix)


def check_pacs(settings: Settings) -> Iterator[Finding]:
    """Send a C-ECHO to every destination."""
    if not settings.pacs:
        yield Finding("pacs", True, "none set: reports are stored and not sent")
    for peer in settings.pacs:
        try:
            seconds = pacs.echo(peer, calling_ae=settings.ae_title, credentials=settings.credentials)
        except FirstreadError as error:
            fix = "start it, let it know our AE title, or mend FIRSTREAD_PACS; reports wait meanwhile"
            yield Finding(f"pacs {peer}", False, str(error), fix)
        else:
            yield Finding(f"pacs {peer}", True, f"C-ECHO answered in {seconds * 1000:.0f} ms")


def check_commitment(settings: Settings) -> Iterator[Finding]:
    """Say whether results of storage commitment get through: ours to those that asked, and theirs to us."""
    asked = [peer for peer in settings.pacs if {peer.ae_title, "all"} & set(settings.commitment_from)]
    for peer in asked if settings.calling_aes else ():
        if peer.ae_title not in settings.calling_aes:
            fix = "add it to FIRSTREAD_CALLING_AES, or leave it out of FIRSTREAD_COMMITMENT_FROM"
            yield Finding(f"commitment of {peer}", False, "it is asked for results and may not call", fix)
    for peer in settings.commitment_peers:
        if peer in settings.pacs:
            continue
        try:
            seconds = pacs.echo(peer, calling_ae=settings.ae_title)
        except FirstreadError as error:
            fix = "start it, let it know our AE title, or mend FIRSTREAD_COMMITMENT_PEERS; its results wait meanwhile"
            yield Finding(f"commitment {peer}", False, str(error), fix)
        else:
            yield Finding(f"commitment {peer}", True, f"C-ECHO answered in {seconds * 1000:.0f} ms")


def readiness(settings: Settings, database: Database) -> dict[str, str | None]:
    """Return what the worklist needs to work: name → None when it is there, else what is missing."""

    def words(finding: Finding) -> str | None:
        return None if finding.ok else f"{finding.found}: {finding.fix}"

    checks: dict[str, Callable[[], Finding]] = {
        "database": lambda: check_database(database),
        "broker": lambda: check_broker(settings),
        "spool": lambda: check_spool(settings),
    }
    result: dict[str, str | None] = {}
    for name, check in checks.items():
        try:
            result[name] = words(check())
        except SchemaOwed as error:
            result[name] = str(error)
    return result


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
