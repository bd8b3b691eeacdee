"""Traps on the way from the network into the spool."""

from tests.traps.kinds import Guard, Removal, Trap, guard

HOSTILE = "tests/integration/test_listener_hostile.py"
CROWDS = "tests/integration/test_listener_crowds.py"
DURABLE = "tests/integration/test_listener_durability.py"
BOMBS = "tests/integration/test_pixels_bombs.py"
SPOOL = "tests/unit/worker/intake/test_spool.py"

TRAPS = (
    Trap(
        "7",
        "success is answered before the bytes are durable",
        (
            guard(
                "fsync of the file before it has its name",
                "worker/intake/spool.py",
                "        os.fsync(self._descriptor)\n",
                "",
                f"{DURABLE}::test_the_system_calls_are_in_the_order_that_durability_needs",
                f"{SPOOL}::test_the_bytes_are_durable_before_the_name_and_the_name_before_commit_returns",
                f"{SPOOL}::test_a_failed_fsync_commits_nothing",
            ),
            guard(
                "fsync of the directory before the answer",
                "worker/intake/spool.py",
                "        self._committed = True\n        sync_directory(self._directory)\n",
                "        self._committed = True\n",
                f"{DURABLE}::test_the_system_calls_are_in_the_order_that_durability_needs",
                f"{SPOOL}::test_the_bytes_are_durable_before_the_name_and_the_name_before_commit_returns",
            ),
        ),
    ),
    Trap(
        "8",
        "the disk is full, or read-only",
        (
            guard(
                "a failed write is A700 and its partial file goes",
                "dicom_listener/reception.py",
                "            self._incoming.write(*fragments)\n        except OSError as error:\n",
                "            self._incoming.write(*fragments)\n        except ZeroDivisionError as error:\n",
                f"{DURABLE}::test_a_full_disk_is_a700_and_heals",
            ),
            guard(
                "a file that cannot be opened is A700",
                "dicom_listener/reception.py",
                "                self._incoming.write(head)\n        except OSError as error:\n",
                "                self._incoming.write(head)\n        except ZeroDivisionError as error:\n",
                f"{DURABLE}::test_a_read_only_disk_is_a700_and_heals",
                f"{DURABLE}::test_a_spool_that_went_away_is_a700_and_heals",
            ),
            guard(
                "a floor of free space",
                "worker/intake/spool.py",
                "        return self.free_bytes() - size >= self.min_free_bytes\n",
                "        return True\n",
                f"{DURABLE}::test_below_the_floor_is_a700",
                f"{SPOOL}::test_the_floor_counts_what_is_to_come",
            ),
        ),
    ),
    Trap(
        "9",
        "a sender dies in a transfer and leaves a partial file",
        (
            guard(
                "an association that ends lets go of what is half received",
                "dicom_listener/transport.py",
                "            self.assoc.dimse.abandon()\n",
                "",
                f"{HOSTILE}::test_a_sender_that_dies_in_a_transfer_leaves_nothing",
            ),
            guard(
                "what a crash left is swept before anything is accepted",
                "dicom_listener/__main__.py",
                "    swept = spool.sweep_partials()\n",
                "    swept = 0\n",
                f"{DURABLE}::test_what_a_crash_left_is_swept_before_anything_is_accepted",
            ),
        ),
    ),
    Trap(
        "11",
        "what one silent client makes wait, all wait for",
        (
            guard(
                "each connection is served off the thread that accepts",
                "dicom_listener/server.py",
                "            association.start()\n",
                "            association.run()\n",
                f"{HOSTILE}::test_a_silent_connection_does_not_keep_others_waiting",
            ),
            Guard(
                "a TLS handshake is done off the thread that accepts",
                (
                    Removal(
                        "dicom_listener/server.py",
                        "        association = ListenerAssociation(self, request, client_address)\n",
                        "        if self.tls is not None:\n"
                        "            request = self.tls.wrap(request, self.handshake_seconds, self.draining.is_set)\n"
                        "        association = ListenerAssociation(self, request, client_address)\n",
                    ),
                    Removal(
                        "dicom_listener/association.py",
                        "        if tls is None:\n            return connection\n",
                        "        if tls is None or isinstance(connection, ssl.SSLSocket):\n"
                        "            return connection\n",
                    ),
                ),
                ("tests/integration/test_listener_tls.py::test_silent_and_slow_peers_hold_nobody_up",),
            ),
            guard(
                "a TLS handshake has an end, however its bytes are spread",
                "dicom_listener/association.py",
                "tls.wrap(connection, self._server.handshake_seconds, self._is_over)",
                "tls.wrap(connection, 1e9, self._is_over)",
                "tests/integration/test_listener_timeouts.py::"
                "test_a_handshake_has_its_time_limit_however_its_bytes_are_spread",
            ),
        ),
    ),
    Trap(
        "12",
        "what is small on the wire is large in memory",
        (
            guard(
                "a cap on a PDU before it is buffered",
                "dicom_listener/transport.py",
                "        if length > cap:\n",
                "        if False:\n",
                f"{HOSTILE}::test_an_enormous_pdu_before_the_association_is_not_buffered",
                f"{HOSTILE}::test_an_enormous_p_data_pdu_aborts_the_association",
            ),
            guard(
                "a cap on an object",
                "dicom_listener/reception.py",
                "        if self.data_set_bytes > self._max_object_bytes:\n",
                "        if False:\n",
                "tests/integration/test_listener.py::test_objects_above_the_size_cap",
            ),
            guard(
                "a header is inflated up to a limit",
                "worker/intake/header_parsing.py",
                "        out += inflater.decompress(block, HEADER_LIMIT - len(out))\n",
                "        out += inflater.decompress(block)\n",
                "tests/unit/worker/intake/test_headers.py::test_a_deflated_bomb_costs_no_more_than_the_limit",
            ),
            guard(
                "pixels are inflated up to a limit",
                "worker/inference/part10.py",
                "        data = inflater.decompress(compressed, limit + 1)\n",
                "        data, limit = inflater.decompress(compressed), 1 << 62\n",
                f"{BOMBS}::test_a_deflated_bomb",
            ),
            guard(
                "a cap on declared pixels before anything is decoded",
                "worker/inference/decoder.py",
                "    if layout.rows * layout.columns * layout.samples > bounds.max_pixels:\n",
                "    if False:\n",
                f"{BOMBS}::test_more_pixels_are_declared_than_allowed",
            ),
            guard(
                "a child has a bounded address space",
                "worker/guarded/limits.py",
                "        (resource.RLIMIT_AS, memory_bytes),\n",
                "",
                f"{BOMBS}::test_run_lengths_that_unpack_to_more_than_the_memory",
                "tests/integration/test_pixels_child.py::test_the_child_is_confined",
            ),
            guard(
                "nesting without end is a reason, not a crash",
                "worker/inference/part10.py",
                "        except RecursionError as error:\n",
                "        except ZeroDivisionError as error:\n",
                f"{BOMBS}::test_sequences_nested_without_end",
            ),
            guard(
                "a request of a hundred thousand items is not decoded",
                "dicom_listener/associate_request.py",
                "        if count > ITEMS_CAP:\n",
                "        if False:\n",
                "tests/unit/dicom_listener/test_associate_request.py::test_too_many_items",
            ),
        ),
    ),
    Trap(
        "13",
        "a UID is used as a path",
        (
            guard(
                "a SOP Instance UID is made of digits and dots, or refused",
                "dicom_listener/handlers.py",
                "    if not is_uid(request.sop_instance_uid):\n        return BAD_INSTANCE_UID\n",
                "",
                "tests/integration/test_listener.py::test_bad_requests_have_their_status_and_the_association_lives",
                "tests/unit/dicom_listener/test_handlers.py::test_requests_are_judged",
            ),
        ),
    ),
    Trap(
        "M1",
        "two hundred crawling connections keep everybody out",
        (
            guard(
                "the oldest silent connection gives way to a newcomer",
                "dicom_listener/places.py",
                "                self._send_away(silent)\n",
                "                return False\n",
                f"{CROWDS}::test_two_hundred_crawlers_keep_nobody_out",
            ),
            guard(
                "the slowest association gives way to a newcomer",
                "dicom_listener/places.py",
                "                if slowest is None:\n",
                "                if slowest is None or slowest:\n",
                f"{CROWDS}::test_two_hundred_crawlers_keep_nobody_out",
            ),
        ),
    ),
    Trap(
        "M2",
        "a peer writes our log: fills it, forges a line, has its words repeated",
        (
            guard(
                "lines about one peer are limited, the rest is counted",
                "worker/log_limit.py",
                "        if told.lines >= LINES:\n",
                "        if False:\n",
                "tests/unit/worker/test_log_limit.py::test_beyond_the_limit_lines_are_counted_and_the_count_is_told",
                f"{CROWDS}::test_the_log_cannot_be_flooded_and_accounts_for_every_line",
            ),
            guard(
                "what a peer said cannot look like a line of ours",
                "worker/logs.py",
                "        tame,\n",
                "",
                "tests/unit/worker/test_logs.py::test_no_peers_words_look_like_a_line_of_ours",
            ),
            Guard(
                "what came in place of a UID or an AE title is not repeated",
                (
                    Removal(
                        "dicom_listener/transport.py",
                        "            check_associate_request(body)\n",
                        "            _ = body\n",
                    ),
                    Removal("dicom_listener/transport.py", "cannot be decoded: {type(error).__name__}", "{error}"),
                ),
                (f"{CROWDS}::test_what_a_peer_says_in_place_of_names_is_not_repeated",),
            ),
        ),
    ),
)
