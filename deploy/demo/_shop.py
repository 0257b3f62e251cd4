"""The demo: a small shop as the outside world, and `gateway dev` on this folder beside it.

Run by `make demo`. The shop listens on a free port of this machine; the process of `order.bpmn` asks it for a price and orders.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from aiohttp import ClientError, ClientSession, web

PRICES = {"lamp": 39.9, "chair": 120.0}
TOKEN = "Bearer demo-token-4711"  # noqa: S105 - the demo's own, of no use elsewhere
WEBHOOK_KEY = "demo-key-0815"


async def price(request: web.Request) -> web.Response:
    """The price of an article, 404 for one the shop does not have."""
    article = request.match_info["article"]
    if article not in PRICES:
        return web.json_response({"error": "no such article"}, status=404)
    return web.json_response({"article": article, "price": PRICES[article]})


async def order(request: web.Request) -> web.Response:
    """Takes an order, if the caller may place one."""
    if request.headers.get("Authorization") != TOKEN:
        return web.json_response({"error": "who are you?"}, status=401)
    wanted = await request.json()
    price = wanted.get("price", PRICES.get(wanted["article"]))
    print(f"shop        got an order for {wanted['article']} at {price}", flush=True)  # noqa: T201
    return web.json_response({"number": "A-1001"}, status=201)


async def send_webhook(port: str, shop: str) -> None:
    """Orders a chair as a customer's system would: by webhook, as soon as the gateway listens."""
    url, order = f"http://127.0.0.1:{port}/inbound/orders", {"article": "chair", "shop": shop}
    async with ClientSession(headers={"X-API-Key": WEBHOOK_KEY}) as session:
        for _ in range(200):
            try:
                async with session.post(url, json=order) as answer:
                    if answer.status != 404:  # the process may not be deployed yet
                        print(f"webhook     POST {url} was answered {answer.status} {await answer.text()}", flush=True)  # noqa: T201
                        return
            except ClientError:
                pass
            await asyncio.sleep(0.1)


async def main(port: str) -> int:
    """Serves the shop, runs the gateway until it ends or this is stopped."""
    shop = web.Application()
    shop.add_routes([web.get("/price/{article}", price), web.post("/orders", order)])
    runner = web.AppRunner(shop, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    variables = json.dumps({"shop": address, "article": "lamp", "budget": 50})
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "dev", str(Path(__file__).parent), "--port", port),
        *("--start", "order", "--variables", variables),
        start_new_session=True,  # Ctrl-C reaches this process alone, and the gateway by way of it: once
    )
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, lambda: _stop(gateway))
    customer = asyncio.create_task(send_webhook(port, address))
    try:
        return await gateway.wait()
    finally:
        customer.cancel()
        await runner.cleanup()


def _stop(gateway: asyncio.subprocess.Process) -> None:
    if gateway.returncode is None:
        gateway.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "8080")))
