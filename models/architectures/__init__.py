"""One file a published architecture; a training recipe names the one it uses."""
