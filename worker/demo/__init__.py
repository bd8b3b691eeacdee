"""The demonstration: example scans, a stand-in PACS, one run on this machine."""
