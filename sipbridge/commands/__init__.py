"""The command line's families of commands; `cli` puts them together."""
