"""Who may look and what each may see: accounts, sessions, tokens of machines. Shared by the command line and the pages.

What is done here is told to whoever keeps the audit trail through a `Record` that the door hands in.
"""
