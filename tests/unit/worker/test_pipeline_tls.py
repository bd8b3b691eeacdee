"""What is owed to a destination from before it was given TLS goes there over TLS too, with our certificates."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker.config import Credentials, Peer
from worker.errors import PeerUnreachable
from worker.operations import resend
from worker.reporting import pacs

PLAIN, SECURE = Peer.parse("PACS@192.0.2.1:104"), Peer.parse("PACS@192.0.2.1:104/tls")
FILES = Credentials(Path("/c.pem"), Path("/k.pem"), Path("/ca.pem"))


def test_an_owed_delivery_follows_its_destination_to_tls(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Peer, Credentials | None]] = []

    def away(_path: Path, peer: Peer, *, credentials: Credentials | None, **_: Any) -> None:
        called.append((peer, credentials))
        raise PeerUnreachable("nobody is there")

    monkeypatch.setattr(pacs, "deliver", away)
    before = make_pipeline(database_url, tmp_path, destinations=[PLAIN])
    ds = film()
    spool_object(before.spool, ds)
    while before.register_arrivals():
        pass
    before.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    before.report()
    before.deliver()
    before.database.dispose()
    after = make_pipeline(database_url, tmp_path, destinations=[SECURE])
    after.credentials = FILES
    monkeypatch.setattr(after.work, "backoff", lambda retries: 0.0)
    assert resend(after, str(ds.StudyInstanceUID), [SECURE]) == [str(SECURE)]
    after.deliver()
    after.database.dispose()
    assert called[0] == (PLAIN, None)
    assert set(called[1:]) == {(SECURE, FILES)}
