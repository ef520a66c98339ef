"""What can be wrong with a message, as words that are counted: `malformed_<fault>`, and for streams `stream_<fault>`.

The words are stable, for dashboards and alarms are built on them; `docs/counters.md` says what each means.
"""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Of a message (`SipParseError.fault`)."""

    # what it is
    NOT_SIP = "not_sip"
    VERSION = "version"
    REQUEST_LINE = "request_line"
    STATUS_LINE = "status_line"
    # where it ends
    NO_END = "no_end_of_header"
    HEADER_TOO_LONG = "header_too_long"
    TOO_MANY_FIELDS = "too_many_fields"
    TOO_MANY_VALUES = "too_many_values"
    CONTENT_LENGTH = "content_length"
    REPEATED_CONTENT_LENGTH = "repeated_content_length"
    CUT_SHORT = "body_cut_short"
    # what would be read differently by others
    BARE_LINE_BREAK = "bare_line_break"
    NUL = "nul"
    FOLDED_START_LINE = "folded_start_line"
    URI_HEADERS = "header_in_request_uri"
    REPEATED_FIELD = "repeated_field"
    REPEATED_PARAMETER = "repeated_parameter"
    METHODS_DIFFER = "methods_differ"
    # what cannot be read
    FIELD = "field"
    MISSING_FIELD = "missing_field"
    FIELD_TOO_LONG = "field_too_long"
    LIST = "list"
    URI = "uri"
    HOST = "host"
    PORT = "port"
    ADDRESS = "address"
    PARAMETERS = "parameters"
    VIA = "via"
    BRANCH = "branch"
    CONTACT = "contact"
    CALL_ID = "call_id"
    CSEQ = "cseq"
    MAX_FORWARDS = "max_forwards"
    CONTENT_TYPE = "content_type"
    OTHER = "other"
    """A header field whose own reader says no more (Replaces, Session-Expires, ...)."""


class StreamFault(StrEnum):
    """Of a connection (`StreamFramingError.fault`): it is closed."""

    NOT_SIP = "not_sip"
    BARE_LINE_BREAK = "bare_line_break"
    HEADER_TOO_LONG = "header_too_long"
    CONTENT_LENGTH = "content_length"
    BODY_TOO_LONG = "body_too_long"
    WEBSOCKET = "websocket"
