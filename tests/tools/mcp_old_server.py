"""An MCP server of an older day, by hand: it answers what it knows, and nothing else, not even with an error."""

from __future__ import annotations

import json
import sys
from typing import Any

TOOL = {"name": "hello", "description": "Says hello.", "inputSchema": {"type": "object", "properties": {}}}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            version = params["protocolVersion"]
            return {
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            }
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": "hello"}]}
    return None


for line in sys.stdin:
    message = json.loads(line)
    result = answer(message["method"], message.get("params") or {})
    if result is not None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n")
        sys.stdout.flush()
