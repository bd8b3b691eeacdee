"""Traps on the way from the spool to the report."""

from tests.traps.kinds import Trap, guard

WORK = "tests/unit/worker/intake/test_work.py"
PIPELINE = "tests/unit/worker/test_pipeline.py"
ONCE = "tests/unit/worker/test_once.py"
DEATHS = "tests/acceptance/test_worker_deaths.py"
DURABLE = "tests/integration/test_listener_durability.py"

TRAPS = (
    Trap(
        "1",
        "a message is popped and lost before anybody has noted it",
        (
            guard(
                "the sweeper hints again at all that is due",
                "worker/pipeline.py",
                "        self.wakeups.send(hints((one.kind, one.lane, one.count) for one in due))\n",
                "",
                f"{DEATHS}::test_a_message_that_dies_with_its_worker_is_not_missed",
            ),
        ),
    ),
    Trap(
        "2",
        "a long task runs a second time while the first still runs",
        (
            guard(
                "a fencing token on the row",
                "worker/intake/statements.py",
                '        sa.tuple_(work.id, work.token).in_(sa.bindparam("held_pairs", expanding=True)),\n',
                "",
                f"{WORK}::test_finishing_needs_the_newest_token[sqlite]",
            ),
            guard(
                "a lease that is renewed while the work goes on",
                "worker/intake/work.py",
                "                    self._renew(tuple(claims))\n",
                "                    pass\n",
                f"{WORK}::test_a_lease_is_renewed_while_the_work_goes_on[sqlite]",
            ),
            guard(
                "one prediction for an instance and a model, by the database",
                "worker/migrations/versions/0001_the_first_schema.py",
                "    sa.UniqueConstraint('instance_id', 'model_version_id', "
                "name=op.f('uq_prediction_instance_id_model_version_id'))\n",
                "",
                f"{ONCE}::test_an_instance_has_one_prediction_of_a_model_whatever_a_worker_believes[sqlite]",
            ),
        ),
    ),
    Trap(
        "3",
        "a report is sent twice on a retry, as two",
        (
            guard(
                "its UID is derived from its sources and the weights",
                "worker/reporting/structured_report.py",
                'derived_uid("report", result.study_instance_uid, result.generation, *sources, *algorithms)\n',
                "derived_uid(__import__('time').time_ns())\n",
                f"{ONCE}::test_a_kill_before_the_report_was_committed_makes_the_same_report_again[sqlite]",
            ),
            guard(
                "it is stored before it is first sent, and the stored bytes are what is sent",
                "worker/pipeline.py",
                "        delivery, report = self.reports.find(claim)\n",
                "        delivery, report = self.reports.find(claim)\n"
                "        remade = self.reports.reports_dir / report.path\n"
                "        remade.write_bytes(remade.read_bytes() + time.time_ns().to_bytes(8, 'little'))\n",
                f"{ONCE}::test_a_kill_after_the_pacs_accepted_sends_the_very_same_bytes_again[sqlite]",
            ),
        ),
    ),
    Trap(
        "4",
        "a poison input kills its worker for ever",
        (
            guard(
                "the attempt is counted and committed before the work begins",
                "worker/intake/statements.py",
                "            attempts=work.attempts + 1,\n",
                "",
                f"{WORK}::test_work_of_a_vanished_worker_is_claimed_singly_and_given_up_in_the_end[sqlite]",
                f"{DEATHS}::test_an_input_that_kills_its_worker_is_given_up_and_its_neighbours_are_not",
            ),
            guard(
                "what a vanished worker held is claimed singly",
                "worker/intake/statements.py",
                "sa.case((head.c.lost_leases > 0, int(suspects)), else_=most)",
                "most",
                f"{WORK}::test_a_suspect_is_claimed_without_its_neighbours[sqlite]",
            ),
        ),
    ),
    Trap(
        "5",
        "one bad image fails its whole batch",
        (
            guard(
                "a batch that fails is halved until the culprit stands alone",
                "worker/inference/classify.py",
                "        if len(batch) == 1:\n            return [error]\n",
                "        if len(batch):\n            return [error] * len(batch)\n",
                f"{PIPELINE}::test_an_image_that_breaks_the_model_is_isolated_and_given_up[sqlite]",
            ),
            guard(
                "a decoding error is its image's own",
                "worker/inference/classify.py",
                "    except (Never, ChildLost) as error:\n",
                "    except ZeroDivisionError as error:\n",
                f"{PIPELINE}::test_one_bad_image_costs_its_neighbours_nothing[sqlite]",
            ),
        ),
    ),
    Trap(
        "6",
        "publishing hangs against a half-open broker",
        (
            guard(
                "nothing of a broker is on the way of a C-STORE",
                "dicom_listener/handlers.py",
                "import time\n",
                "import time\n\nimport celery  # noqa: F401\n",
                f"{DURABLE}::test_nothing_heavy_is_imported",
            ),
            guard(
                "the broker's socket has a timeout of a second",
                "worker/celery_app.py",
                '{"socket_connect_timeout": 1, "socket_timeout": 1, "socket_keepalive": True}\n',
                '{"socket_keepalive": True}\n',
                "tests/unit/worker/test_wakeups.py::test_the_settings_of_our_own_application_give_a_frozen_broker_up",
            ),
        ),
    ),
    Trap(
        "10",
        "the sender did not get its success and sends again",
        (
            guard(
                "the same UID with the same bytes is there already",
                "worker/intake/registration.py",
                "            elif one.stored.dataset_sha256 in uids[one.sop_instance_uid]:\n",
                "            elif False:\n",
                f"{PIPELINE}::test_an_identical_resend_changes_nothing[sqlite]",
            ),
            guard(
                "the same UID with other bytes is kept, failed and shown",
                "worker/intake/registration.py",
                "        if conflict:\n",
                "        if False:\n",
                f"{PIPELINE}::test_the_same_uid_with_other_bytes_is_kept_failed_and_reported[sqlite]",
            ),
        ),
    ),
    Trap(
        "14",
        "each pool child loads its own model; varying batches retrace",
        (
            guard(
                "one process and one thread classifies",
                "worker/commands/services.py",
                '    pool = ["--pool", "solo"] if models else',
                '    pool = ["--pool", "prefork"] if models else',
                "tests/unit/worker/commands/test_services.py::"
                "test_what_classifies_is_one_process_that_was_warmed_before_it_takes_work",
            ),
            guard(
                "it is warm before it takes work",
                "worker/commands/services.py",
                "        tasks.runtime.classifier(model)  # warm before the first scan\n",
                "        _ = model\n",
                "tests/unit/worker/commands/test_services.py::"
                "test_what_classifies_is_one_process_that_was_warmed_before_it_takes_work",
            ),
            guard(
                "batches are padded to a few sizes, each traced once",
                "models/classifier.py",
                "        size = next((bucket for bucket in buckets if bucket >= len(piece)), len(piece))\n",
                "        size = len(piece)\n"
                "        from models.engines.keras import _compiled, load_backend\n"
                "        compiled = _compiled(load_backend()[1], self.network, size)\n"
                "        self._engine._functions.setdefault(size, compiled)\n",
                "tests/unit/models/test_classifier.py::test_it_is_traced_once_a_bucket_however_batches_vary",
            ),
        ),
    ),
    Trap(
        "15",
        "two claim the same, or SQLite says that it is locked",
        (
            guard(
                "SQLite: a transaction that will write begins IMMEDIATE",
                "worker/database/session.py",
                "        self._writing = self.engine.execution_options(begin_immediate=True)\n",
                "        self._writing = self.engine\n",
                f"{WORK}::test_eight_processes_share_the_work_without_overlap[sqlite]",
            ),
            guard(
                "PostgreSQL: one statement, its rows locked where they are chosen",
                "worker/intake/statements.py",
                'chosen.with_for_update(skip_locked=True).cte("due")',
                'chosen.cte("due")',
                f"{WORK}::test_eight_processes_share_the_work_without_overlap[postgresql]",
            ),
            guard(
                "SQLite: synchronous FULL",
                "worker/database/session.py",
                '"synchronous=FULL", ',
                '"synchronous=NORMAL", ',
                f"{ONCE}::test_what_sqlite_has_committed_is_on_the_disk",
            ),
        ),
    ),
    Trap(
        "M3",
        "a model file from outside runs code",
        (
            guard(
                "the digest is compared before Keras opens it",
                "models/classifier.py",
                "        package.verify_files()\n",
                "",
                "tests/unit/models/test_classifier.py::test_changed_weights_are_never_opened",
            ),
            guard(
                "only plain layers are opened",
                "models/archive.py",
                "    _check_config(path, config)\n\n\n",
                "\n\n",
                "tests/unit/models/test_archive.py::test_anything_else_is_named",
            ),
            guard(
                "what ONNX Runtime opens was hashed",
                "models/engines/onnx.py",
                "        if found != card.onnx.sha256:\n",
                "        if not found:\n",
                "tests/unit/models/engines/test_onnx.py::test_a_changed_file_is_never_opened",
            ),
            guard(
                "only the standard's operators are run",
                "models/engines/onnx_file.py",
                "        if node.domain not in STANDARD:\n",
                "        if node.domain is None:\n",
                "tests/unit/models/engines/test_onnx_file.py::test_anything_else_is_refused",
            ),
            guard(
                "no weight lies in another file",
                "models/engines/onnx_file.py",
                "        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:\n",
                "        if tensor is None:\n",
                "tests/unit/models/engines/test_onnx_file.py::test_anything_else_is_refused",
            ),
        ),
    ),
)
