"""`medperf-server init` and `run`: a database, and a process that serves it."""

from pathlib import Path

import click

from medperf_server.cli.base import application, registry


@click.command()
def init() -> None:
    """Create the database, or bring it to the newest version. Safe to repeat.

    \b
    Example:
      medperf-server init
    """
    from medperf_server.base import db
    from medperf_server.database import migrate

    with application() as app:
        migrate(app)
        url = db.engine.url.render_as_string()
    click.echo(f"The database is ready: {url}", err=True)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
def run(host: str, port: int) -> None:
    """Serve the registry until it is interrupted or terminated.

    For many users, serve `medperf_server.wsgi:app` with gunicorn behind a proxy that does TLS.

    \b
    Example:
      medperf-server run --host 0.0.0.0 --port 8000
    """
    import signal
    import tempfile

    from medperf_server.config import MAX_BODY_BYTES
    from medperf_server.connections import create_server
    from medperf_server.disk import made

    with registry() as app:
        pass
    # The application answers 413 in JSON itself; waitress only bounds what it buffers for that.
    limit = 16 * MAX_BODY_BYTES
    try:
        server = create_server(app, host, port, app.config["CONNECTIONS"], limit)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror}") from error
    try:
        # What is too large for memory goes where there is room for members' files, and not to
        # TMPDIR, which may be small.
        tempfile.tempdir = str(made(Path(app.config["STAGING"])))
    except OSError as error:
        click.echo(f"{error}: TMPDIR has to do; look at MEDPERF_STAGING", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A name such as localhost may mean several sockets, which then share the given port.
    port = getattr(server, "effective_port", port)
    click.echo(f"Listening on http://{host}:{port}")
    server.run()
