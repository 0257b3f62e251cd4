"""A webhook written by hand with aiohttp and grpcio, with nothing around it. ENGINE: host:port; PORT; SECRET: of signatures, or empty."""

import hashlib
import hmac
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(os.environ["STUBS"])))

import gateway_pb2 as pb
import gateway_pb2_grpc as rpc
import grpc
import orjson
import uvloop
from aiohttp import web

SECRET = os.environ.get("SECRET", "").encode()
GATEWAY = web.AppKey("gateway", Any)


async def receive(request: web.Request) -> web.Response:
    raw = await request.read()
    if SECRET:
        wanted = hmac.new(SECRET, raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, request.headers.get("X-Signature", "")):
            return web.Response(status=401)
    body = orjson.loads(raw)
    seen = {"body": body, "headers": {str(name): value for name, value in request.headers.items()}}
    variables = orjson.dumps({"order": body["orderId"], "total": body["total"], "request": seen})
    started = await request.app[GATEWAY].CreateProcessInstance(
        pb.CreateProcessInstanceRequest(bpmnProcessId="orders", version=-1, variables=variables.decode())
    )
    answer = {"accepted": body["orderId"], "processInstanceKey": started.processInstanceKey}
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def connect(app: web.Application) -> None:
    app[GATEWAY] = rpc.GatewayStub(grpc.aio.insecure_channel(os.environ["ENGINE"]))


uvloop.install()
app = web.Application()
app.on_startup.append(connect)
app.router.add_post("/inbound/{context}", receive)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)
