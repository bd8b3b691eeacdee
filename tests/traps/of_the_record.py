"""Traps around what is shown and attested: who may look, what is written down about it, what is answered for."""

from tests.traps.kinds import Trap, guard

LOGIN = "tests/unit/worker/worklist/login"

TRAPS = (
    Trap(
        "M4",
        "somebody is let in who should not be",
        (
            guard(
                "a page is closed to whom nobody knows, whichever page it is",
                "worker/worklist/login/door.py",
                "            raise self._turned_away(request)\n",
                "            viewer = EVERYBODY\n",
                f"{LOGIN}/test_door.py::test_nobody_sees_anything",
            ),
            guard(
                "a form brings back what our page put into it",
                "worker/worklist/login/forms.py",
                "    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):\n",
                "    if not expected or not given:\n",
                f"{LOGIN}/test_forms.py::test_a_token_of_another_browser_is_refused",
            ),
            guard(
                "after five wrong passwords not even the right one is looked at",
                "worker/accounts/logins.py",
                "        if wait is not None:\n",
                "        if False:\n",
                "tests/unit/worker/accounts/test_throttle.py::"
                "test_after_five_wrong_ones_even_the_right_one_waits_and_is_not_looked_at",
            ),
        ),
    ),
    Trap(
        "M5",
        "what was done is written anew",
        (
            guard(
                "the databases themselves refuse to change an event",
                "worker/migrations/versions/0004_the_audit_chain_has_a_head.py",
                "    for name, body in triggers.items():\n",
                "    for name, body in ():\n",
                "tests/unit/worker/audit/test_guards.py::test_replace_is_refused",
                "tests/unit/worker/audit/test_guards.py::test_truncate_is_refused",
            ),
        ),
    ),
    Trap(
        "M6",
        "we answer for bytes that are not there any more",
        (
            guard(
                "stored bytes are read again before anybody is told that they are kept",
                "worker/commitment/report.py",
                "all(is_whole(self.spool, name, sha256) for _, name, sha256 in stored)",
                "True",
                "tests/unit/worker/commitment/test_report.py::"
                "test_what_is_stored_is_answered_for_and_what_is_not_says_why",
            ),
        ),
    ),
)
