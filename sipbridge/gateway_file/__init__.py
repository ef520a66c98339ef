"""The parts of sipbridge.yaml that fill a page of their own."""
