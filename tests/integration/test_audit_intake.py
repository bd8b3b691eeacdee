"""A real intake: it anchors the chain at its sweep and when it stops, tells of both, and sends all to the receiver."""

import json
from pathlib import Path

from tests.support.objects import film, spool_object
from tests.support.stack import Stack
from tests.support.syslog_receiver import SyslogReceiver
from worker.intake.spool import Spool


def test_intake_anchors_tells_and_sends(tmp_path: Path) -> None:
    with SyslogReceiver("tcp") as receiver, Stack(tmp_path / "data", audit_syslog=receiver.url) as stack:
        spool_object(Spool(stack.data_dir / "spool"), film())
        stack.start("intake")
        anchors = stack.data_dir / "audit" / "anchors.jsonl"
        stack.wait(lambda: anchors.is_file() and anchors.read_bytes().endswith(b"\n"), 120, "an anchor")
        receiver.wait(3)
        assert stack.stop("intake") == 0
        said = stack.json("audit", "verify")
        assert (said["findings"], said["notes"]) == ([], [])
        assert said["anchored"]["id"] == said["last"]["id"] == said["events"]
        actions = [event["action"] for event in json.loads(stack.run("audit", "export").stdout)]
        assert (actions[0], actions[-1]) == ("intake.started", "intake.stopped")
        assert sorted(actions[1:-1]) == ["audit.anchors_begun", "instance.registered"]
        told = [message.xml.find("EventIdentification/EventID").get("csd-code") for message in receiver.messages]  # type: ignore[union-attr]
        assert told[0] == "110100"  # Application Activity
        assert "110104" in told  # DICOM Instances Transferred
        stack.start("intake")  # what it said at its end is sent at the next start
        receiver.wait(len(actions) + 1)
