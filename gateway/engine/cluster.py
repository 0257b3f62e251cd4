"""A Zeebe cluster as one engine: its commands by gRPC or REST, its queries by REST; made from the settings."""

from typing import Final

from gateway.engine import Commands, Queries


class Cluster:
    """An `Engine` of two doors: commands go to one, queries to the other."""

    def __init__(self, commands: Commands, queries: Queries) -> None:
        self.commands: Final = commands
        self.queries: Final = queries
        self.topology = commands.topology
        self.stream_jobs = commands.stream_jobs
        self.activate_jobs = commands.activate_jobs
        self.complete_job = commands.complete_job
        self.fail_job = commands.fail_job
        self.throw_error = commands.throw_error
        self.update_job_timeout = commands.update_job_timeout
        self.create_process_instance = commands.create_process_instance
        self.create_process_instance_with_result = commands.create_process_instance_with_result
        self.publish_message = commands.publish_message
        self.deploy = commands.deploy
        self.search = queries.search
        self.process_definition_xml = queries.process_definition_xml
        self.correlate_message = queries.correlate_message
        self.evaluate_expression = queries.evaluate_expression
        self.create_document = queries.create_document
        self.read_document = queries.read_document
        self.delete_document = queries.delete_document
        self.create_document_link = queries.create_document_link

    async def close(self) -> None:
        """Ends both; what is under way fails with Unavailable, streams end."""
        try:
            await self.commands.close()
        finally:
            await self.queries.close()
