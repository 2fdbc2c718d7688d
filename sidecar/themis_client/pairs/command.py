"""`themis label-pairs`: the parts put together."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from themis_client import cli_output, cli_security
from themis_client.aio import CURRENT, AsyncClient
from themis_client.errors import BadRequest, DeadlineExceeded, UnknownVersion
from themis_client.failure import Failure
from themis_client.pairs import journal
from themis_client.pairs.finish import Finish
from themis_client.pairs.flags import Plan
from themis_client.pairs.journal import Header, Journal
from themis_client.pairs.judging import ByComparison, ByScore, Judging, RowJudge
from themis_client.pairs.run import Run
from themis_client.pairs.source import PARQUET, Source
from themis_client.pairs.summary import Summary
from themis_client.replicas import ReplicaPolicy


class LabelPairs:
    """One run of the command. say: tells a person something while it goes on."""

    def __init__(self, args: argparse.Namespace, say: Callable[[str], object]) -> None:
        self._args = args
        self._say = say
        self._plan = Plan.of(args)
        self._source = Source(args.file)
        self._output: Path = args.output

    @property
    def journal(self) -> Path:
        return self._output.with_name(f"{self._output.name}.journal.jsonl")

    @property
    def failures(self) -> Path:
        return self._output.with_name(f"{self._output.name}.failed.jsonl")

    def run(self) -> Summary | None:
        """None where no row could be read. Raises MissingExtra, ThemisError, OSError; what was judged until then
        stays in the journal."""
        if self._output.exists() and self._output.samefile(self._args.file):
            raise BadRequest(f"{self._output} is the input")
        for path in (self._args.file, self._output):
            cli_output.need("parquet" if path.suffix == PARQUET else "jsonl")
        chat = self._source.chat()
        if chat is None:
            for row in self._source.rows():
                if isinstance(row.item, Failure):
                    self._say(row.item.error)
            return None
        with journal.opened(self.journal) as found:
            version = asyncio.run(self._judge(found, self._before(found)))
            finish = Finish(self._source, self._plan.choice, self._plan.by, version)
            return finish.write(found.records(), chat, self._output, self.failures)

    def _before(self, found: Journal) -> Header | None:
        """What the run goes on from; None where it begins."""
        if self._args.resume and found.header is not None:
            return found.header
        if found.header is not None and not self._args.overwrite:
            raise BadRequest(f"{self.journal} is there: --resume goes on from it, --overwrite begins anew")
        if self._output.exists() and not self._args.overwrite:
            raise BadRequest(f"{self._output} is there, and no journal of it: --overwrite replaces it")
        return None

    async def _judge(self, found: Journal, before: Header | None) -> str:
        """Fills the journal, and returns the version that it's of."""
        survey = self._source.survey()
        version: str | None = None if self._args.version == CURRENT else self._args.version
        if before is not None:
            version = version or before.version
            differences = before.differences(Header(version, survey.digest, self._plan.kept))
            if differences:
                raise BadRequest(f"{self.journal} is of another run: {'; '.join(differences)}")
        async with self._client(version) as client:
            version = version or await client.refresh_version()
            header = Header(version, survey.digest, self._plan.kept)
            entries = found.records() if before else iter(())
            with found.renewing(header) as renewal, cli_output.progress(survey.rows) as advance:
                run = Run(RowJudge(self._judging(client), client), self._args.window, self._say, advance)
                try:
                    await self._in_time(run.judge_all(self._source.rows(), entries, renewal))
                except UnknownVersion as error:
                    raise UnknownVersion(f"{error}{_JOURNAL_NEEDS_IT if before else ''}") from error
        return version

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await asyncio.wait_for(work, self._args.timeout)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(f"--timeout {self._args.timeout:g} is over") from error

    def _judging(self, client: AsyncClient) -> Judging:
        plan = self._plan
        return ByScore(client, plan.options) if plan.tournament is None else ByComparison(client, plan.tournament)

    def _client(self, version: str | None) -> AsyncClient:
        # Each prompt is a call of its own: as many may be under way as the window holds.
        replicas = ReplicaPolicy(calls=self._args.window)
        return cli_security.client(
            self._args, AsyncClient, version=version, timeout_s=self._args.call_timeout, replicas=replicas
        )


_JOURNAL_NEEDS_IT = "; the journal is of that version: make it resident, or begin anew with --overwrite"
