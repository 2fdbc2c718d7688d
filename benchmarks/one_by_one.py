"""The reward server that people write first: HTTP, one completion a request, one forward pass after the other."""

from __future__ import annotations

import asyncio
import socket

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM

from benchmarks import workload
from themis_judge.engines.base import Prompt
from themis_judge.items import Item, Message, Response
from themis_judge.scenarios import Scenario
from themis_judge.tokens import Encoder


class OneByOne:
    """Rates by the model's own forward pass with its stock attention."""

    def __init__(self, model: str, encoder: Encoder, scenario: Scenario) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        self._encoder = encoder
        self._scenario = scenario
        self._labels = [sequence[0] for sequence in encoder.labels(tuple("12345")).sequences]
        self._turn = asyncio.Lock()

    async def reward(self, request: Request) -> JSONResponse:
        body = await request.json()
        item = Item((Message.of("user", body["prompt"]),), Response.of(body["response"]))
        async with self._turn:
            return JSONResponse(
                await asyncio.to_thread(self._rated, workload.encode(self._encoder, self._scenario, item))
            )

    @torch.inference_mode()
    def _rated(self, prompt: Prompt) -> float:
        ids = torch.tensor([[token for segment in prompt.segments for token in segment]])
        logits = self._model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
        chances = torch.softmax(logits.float()[self._labels], -1)
        return float((chances * torch.arange(1, 6)).sum())


async def serve(one: OneByOne) -> None:
    app = Starlette(routes=[Route("/reward", one.reward, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    listener = socket.create_server(("127.0.0.1", 0))  # who connects before it serves waits in its backlog
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve([listener])
