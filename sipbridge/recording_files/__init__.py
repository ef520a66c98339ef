"""Recordings as files: sealed or plain, found, finished after a crash, deleted when their time is over."""
