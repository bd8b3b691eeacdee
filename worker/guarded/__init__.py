"""Guarded children: processes that read what strangers sent, so that what goes wrong goes wrong there.

`child` is the parent's side, `serving` the child's; `confinement` is what a child gives up before its first object. The
rooms that read objects (`worker.intake`, `worker.inference`) bring a program each and share the rest.
"""
