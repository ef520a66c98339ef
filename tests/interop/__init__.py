"""sipbridge against programs that other people wrote."""
