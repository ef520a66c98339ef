"""`sipbridge serve` has a call summed up when it is over; the model is a real HTTP server, and not well at first."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sipbridge.simulator.http import HttpAnswer, HttpRequest, HttpServer
from tests.interop.gateway import offline, running_gateway
from tests.interop.peers import ROOT

_NOBODY = "sip:nobody@127.0.0.1:9"


@pytest.mark.slow
def test_a_call_is_summed_up_though_the_model_was_away(tmp_path: Path) -> None:
    asked: list[Any] = []
    written = asyncio.Event()

    async def model(request: HttpRequest) -> HttpAnswer:
        asked.append(request.json())
        if len(asked) == 1:
            return HttpAnswer.of({"error": {"message": "overloaded"}}, 503)
        written.set()
        return HttpAnswer.of({"choices": [{"message": {"content": "Nothing came of it."}}]})

    async def story() -> None:
        async with HttpServer(model) as server:
            url = f"{server.url}/v1/chat/completions"
            summary = {"provider": "openai_compatible", "url": url, "model": "small"}
            tenants = {"summed": offline("summed", _NOBODY) | {"summary": summary}}
            gateway = running_gateway(tmp_path, desk=_NOBODY, tenants=tenants)
            process = await asyncio.to_thread(gateway.__enter__)
            try:
                argv = ["-m", "sipbridge", "call", process.uri("summed"), "--seconds", "2"]
                caller = await asyncio.create_subprocess_exec(sys.executable, *argv, cwd=ROOT)
                assert await caller.wait() == 0
                async with asyncio.timeout(20):
                    await written.wait()
                    await asyncio.to_thread(process.program.wait_for, '"call summarised"')
            finally:
                await asyncio.to_thread(gateway.__exit__, None, None, None)

    asyncio.run(story())
    assert "this is sipbridge" in asked[1]["messages"][1]["content"]
    with closing(sqlite3.connect(tmp_path / "var" / "history.db")) as db:
        kinds = [kind for (kind,) in db.execute("SELECT kind FROM entries ORDER BY record, seq")]
        ((said,),) = db.execute("SELECT data ->> 'text' FROM entries WHERE kind = 'call.summary'")
    assert kinds[-2:] == ["call.ended", "call.summary"]
    assert said == "Nothing came of it."
