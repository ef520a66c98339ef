"""One caller, removed everywhere (`sipbridge erase`)."""
