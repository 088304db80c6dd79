"""How a run is served: where, in which batches, within which limits; light, for the command line reads it."""

from dataclasses import dataclass

from quorem.errors import UserError, check_number


@dataclass(frozen=True)
class ServeSettings:
    """Settings of `quorem serve`.

    Attributes:
        host: the address to listen at; 127.0.0.1 is this machine alone.
        port: to listen at; 0 for one that is free.
        max_batch: rows that the model reads at once.
        max_wait_ms: how many milliseconds the first row of a batch waits for others.
        max_request_bytes: the largest body of a request.
        max_texts: the most texts, or other rows, of one request.
        max_queue: rows that may wait in all; a request that does not fit is refused with 503.
        allow_hosts: names, with commas between, under which it may be asked besides this machine's own; without them
            any name will do where host is not this machine alone.
        timeout: seconds until a request is answered with 504, and until its body must have arrived.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 32
    max_wait_ms: float = 2.0
    max_request_bytes: int = 1_000_000
    max_texts: int = 256
    max_queue: int = 1024
    allow_hosts: str = ""
    timeout: float = 30.0

    def check(self) -> None:
        """Accept only settings that a server can keep.

        Raises:
            UserError: naming the option, its value and what is allowed.
        """
        if not self.host or any(each.isspace() for each in self.host):
            raise UserError(f"--host {self.host!r}: a name or an address is needed, such as 127.0.0.1")
        check_number("--port", self.port, at_least=0, at_most=65_535)
        check_number("--max-batch", self.max_batch, at_least=1, at_most=4096)
        check_number("--max-wait-ms", self.max_wait_ms, at_least=0, at_most=1000)
        check_number("--max-request-bytes", self.max_request_bytes, at_least=100, at_most=2**30)
        check_number("--max-texts", self.max_texts, at_least=1, at_most=100_000)
        check_number("--timeout", self.timeout, at_least=0.1, at_most=3600)
        if self.max_queue < self.max_texts:
            raise UserError(f"--max-queue {self.max_queue}: --max-texts={self.max_texts} or more needed")
