"""One suite of conversations, run unchanged over every provider that has a simulator: that is what makes providers
interchangeable. `python -m tests.providers.scenarios` prints what it saw; with --write it renews docs/providers.md."""
